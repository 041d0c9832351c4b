"""One comparison from top to bottom: find the score tables, group them, test, slice, warn, and hold the gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from kamerton.decide.compare.assess import Measured, describe, differences, measure, metrics_of
from kamerton.decide.compare.baseline import choose_baseline
from kamerton.decide.compare.comparison import Comparison, Notice, Slice
from kamerton.decide.compare.confusions import changes, confusions
from kamerton.decide.compare.fields import Groups, fields_of
from kamerton.decide.compare.gate import gate_faults, hold
from kamerton.decide.compare.golden import check_golden, read_golden
from kamerton.decide.compare.leakage import SEEN, all_training, leaks, seen
from kamerton.decide.compare.notices import about_sides
from kamerton.decide.compare.options import CompareOptions, GateOptions, name_of
from kamerton.decide.compare.sides import Group, Scored, find, group, told_apart
from kamerton.decide.compare.slices import slice_by, slice_metrics
from kamerton.decide.compare.words import FIRST, sentence
from kamerton.errors import Fault, UserError
from kamerton.run.directory import now

Step = Callable[[str], None]


def compare(options: CompareOptions, step: Step = lambda what: None) -> Comparison:
    """The comparison that the options ask for; `step` is told what is being done.

    Raises `UserError` for entries without scores, an unknown baseline, sides with different examples, and limits of the
    gate on what is not there.
    """
    step("reading scores")
    golden = read_golden(options.golden) if options.golden else []
    groups, left_out = _groups(options)
    step("looking at what was trained on")
    training = all_training(groups)
    fields, skipped = fields_of(groups[0].first)
    trained_on = seen(groups[0].first, training.values())
    if trained_on and len(set(trained_on)) > 1:
        fields[SEEN] = trained_on
    step("resampling")
    sides = measure(groups, seed=options.seed)
    metrics, sliced = metrics_of(sides), slice_metrics(sides)
    if faults := gate_faults(options.gate, metrics, sliced, list(fields)):
        raise UserError(faults)
    step("testing")
    found = differences(sides, metrics, seed=options.seed)
    step("slicing")
    shown, limited = _slices(sides, fields, sliced, options.gate, options.seed)
    described = tuple(describe(side, metrics, is_baseline=side is sides[0]) for side in sides)
    answers = [check for one in groups[1:] for check in check_golden(golden, one)]
    return Comparison(
        name=name_of(options),
        split=options.split,
        examples=groups[0].first.num_rows,
        sides=described,
        differences=tuple(found),
        verdicts={side.name: sentence(side, described[0], found, groups[0].first.num_rows) for side in described[1:]},
        slices=tuple(shown),
        confusions=tuple(pair for one in groups[1:] for pair in confusions(groups[0], one)),
        changed=tuple(changes(groups[0], one) for one in groups[1:]),
        notices=(*left_out, *skipped, *leaks(groups, training), *about_sides(groups), *_few_seeds(sides)),
        gate=hold(options.gate, found, limited, answers) if options.gate.is_set or golden else None,
        created=now(),
    )


def _groups(options: CompareOptions) -> tuple[list[Group], list[Notice]]:
    """The baseline, then the candidates, all on the same examples in the same order."""
    runs, left_out = find(options.entries, options.split)
    groups, repeated = group(runs)
    baseline, candidates, more = choose_baseline(options.baseline, groups, options.split)
    if not candidates:
        message = f"there is nothing to compare with {baseline.name}"
        raise UserError([Fault("runs.none", message, "name another run in runs, or another baseline", column="runs")])
    return same_examples(told_apart([baseline, *candidates])), [*left_out, *repeated, *more]


def _slices(
    sides: Sequence[Measured], fields: dict[str, Groups], metrics: Sequence[str], gate: GateOptions, seed: int
) -> tuple[list[Slice], list[Slice]]:
    """The slices of the metric that verdicts speak of, and those that the gate limits."""
    if not metrics:
        return [], []
    chief = next((name for name in FIRST if name in metrics), metrics[0])
    shown = slice_by(sides, fields, chief, seed)
    limited = []
    for field, limits in gate.slices.items():
        for metric in limits.max_drop:
            same = [one for one in shown if one.field == field and one.metric == metric]
            limited += same or slice_by(sides, {field: fields[field]} if field in fields else {}, metric, seed)
    return shown, limited


def _few_seeds(sides: Sequence[Measured]) -> list[Notice]:
    """What a comparison of single runs does not speak of."""
    base, *candidates = sides
    several = any(len(side.points) > 1 for side in sides)
    alone = [side for side in candidates if len(side.points) == len(base.points) == 1]
    borrowing = [side for side in candidates if _has_one_seed(side) and len(base.points) > 1]
    borrowing += [base] if _has_one_seed(base) and any(len(side.points) > 1 for side in candidates) else []
    found = []
    if alone := [side for side in alone if _has_one_seed(side) or _has_one_seed(base)]:
        whose = f"of {', '.join(side.group.name for side in alone)}" if several else "each"
        message = (
            f"one seed {whose}: the tests speak of these models, not of what their settings give with another seed"
        )
        found.append(Notice("seeds.one", message, "train with seed=1,2,3 (-m) to compare settings"))
    if borrowing:
        names = ", ".join(side.group.name for side in borrowing)
        message = f"one seed of {names}: how much seeds move it is unknown, and taken to be as on the other side"
        found.append(Notice("seeds.one", message, "train it with further seeds"))
    return found


def _has_one_seed(side: Measured) -> bool:
    return side.group.trained and len(side.points) == 1


def same_examples(groups: Sequence[Group]) -> list[Group]:
    """The same groups with every table in the order of its example ids.

    Raises `UserError` that names the tables with other examples than the first one's, and which these are.
    """
    reference = set(groups[0].first["example_id"].to_pylist())
    faults = [fault for one in groups for run in one.runs for fault in _differences(run, groups[0], reference)]
    if faults:
        raise UserError(faults)
    return [
        Group(one.name, tuple(replace(run, table=run.table.sort_by("example_id")) for run in one.runs))
        for one in groups
    ]


def _differences(run: Scored, baseline: Group, reference: set[str]) -> Iterator[Fault]:
    ids = run.table["example_id"].to_pylist()
    if len(set(ids)) < len(ids):
        message = f"its score table repeats {len(ids) - len(set(ids))} example ids"
        yield Fault("scores.repeated_examples", message, "score each example once", str(run.path))
    if not ids:
        yield Fault("scores.empty", "its score table has no examples", "score it on some", str(run.path))
    missing, extra = reference - set(ids), set(ids) - reference
    if missing or extra:
        message = f"not the test set of {baseline.name}: {_some('lacks', missing)}, {_some('adds', extra)}"
        fix = "score both models on the same split of the same data, or leave it out"
        yield Fault("scores.different_examples", message, fix, str(run.path))


def _some(verb: str, ids: set[str]) -> str:
    few = f" ({', '.join(sorted(ids)[:3])}{', …' if len(ids) > 3 else ''})" if ids else ""
    return f"{verb} {len(ids)} examples{few}"
