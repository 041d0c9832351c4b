"""Compare score tables: find them, group them by configuration, test, slice, collect notices, check the gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from kamerton.decide.compare.assess import Measured, describe, differences, measure, metrics_of
from kamerton.decide.compare.baseline import choose_baseline
from kamerton.decide.compare.comparison import Comparison, Notice, Slice
from kamerton.decide.compare.configurations import Group, ScoredRun, find_scores, group_runs, with_distinct_names
from kamerton.decide.compare.confusions import changed_examples, confusions
from kamerton.decide.compare.evaluations import evaluation_fix
from kamerton.decide.compare.fields import Groups, fields_of
from kamerton.decide.compare.gate import check_gate, gate_faults
from kamerton.decide.compare.golden import check_golden, read_golden
from kamerton.decide.compare.leakage import SEEN, all_training, leakage_notices, seen_in_training
from kamerton.decide.compare.notices import result_notices
from kamerton.decide.compare.options import CompareOptions, GateOptions, located, name_of
from kamerton.decide.compare.slices import slice_by, slice_metrics
from kamerton.decide.compare.words import MAIN_METRICS, verdict_sentence
from kamerton.direction import PAIR_DETAILS
from kamerton.errors import Fault, UserError
from kamerton.run.directory import now
from kamerton.score.references import incomparable
from kamerton.words import listed

Step = Callable[[str], None]


def compare(options: CompareOptions, step: Step = lambda what: None) -> Comparison:
    """Run the comparison that the options describe; `step` is called with a description of each step.

    Raises `UserError` for entries without scores, an unknown baseline, configurations scored on different examples, and
    gate limits on unknown metrics or fields.
    """
    step("reading scores")
    golden = read_golden(options.golden) if options.golden else []
    groups, left_out = _groups(options)
    step("checking training data")
    training = all_training(groups)
    fields, skipped = fields_of(groups[0].first)
    trained_on = seen_in_training(groups[0].first, training.values())
    if trained_on and len(set(trained_on)) > 1:
        fields[SEEN] = trained_on
    step("resampling")
    measured = measure(groups, seed=options.seed)
    metrics = metrics_of(measured)
    sliced = [name for name in slice_metrics(measured) if name in metrics and not _differ(name, groups)]
    judged = [name for name in metrics if name not in PAIR_DETAILS]
    if faults := gate_faults(options.gate, judged, sliced, list(fields)):
        raise UserError(faults)
    step("testing")
    results = differences(measured, metrics, seed=options.seed)
    step("slicing")
    slices, limited = _slices(measured, fields, sliced, options.gate, options.seed)
    baseline, *candidates = groups
    configurations = tuple(describe(each, metrics, is_baseline=each.group is baseline) for each in measured)
    examples = baseline.first.num_rows
    golden_checks = [check for candidate in candidates for check in check_golden(golden, candidate)]
    notices = (*left_out, *skipped, *leakage_notices(groups, training), *result_notices(groups), *_few_seeds(measured))
    return Comparison(
        name=name_of(options),
        split=options.split,
        examples=examples,
        sides=configurations,
        differences=tuple(results),
        verdicts={
            candidate.name: verdict_sentence(candidate, configurations[0], results, examples)
            for candidate in configurations[1:]
        },
        slices=tuple(slices),
        confusions=tuple(pair for candidate in candidates for pair in confusions(baseline, candidate)),
        changed=tuple(changed_examples(baseline, candidate) for candidate in candidates),
        notices=notices,
        gate=check_gate(options.gate, results, limited, golden_checks) if options.gate.is_set or golden else None,
        created=now(),
    )


def any_scored(options: CompareOptions, split: str) -> bool:
    """Return whether any of the compared runs has scores of this split as well."""
    outputs = Path(options.paths.outputs)
    runs, _ = find_scores([located(entry, outputs) for entry in options.entries], options.split)
    return any((run.path / "scores" / f"{split}.parquet").exists() for run in runs)


def _differ(metric: str, groups: Sequence[Group]) -> bool:
    """Return whether a metric of rewards means something else in some groups."""
    return any(incomparable(metric, groups[0].first, group.first) for group in groups[1:])


def _groups(options: CompareOptions) -> tuple[list[Group], list[Notice]]:
    """Return the baseline and the candidates, on the same examples in the same order, and notices."""
    outputs = Path(options.paths.outputs)
    runs, left_out = find_scores([located(entry, outputs) for entry in options.entries], options.split)
    groups, repeated = group_runs(runs)
    baseline, candidates, more = choose_baseline(options.baseline, groups, options.split, outputs)
    if not candidates:
        message = f"there is nothing to compare with {baseline.name}"
        raise UserError([Fault("runs.none", message, "name another run in runs, or another baseline", column="runs")])
    return same_examples(with_distinct_names([baseline, *candidates])), [*left_out, *repeated, *more]


def _slices(
    measured: Sequence[Measured], fields: dict[str, Groups], metrics: Sequence[str], gate: GateOptions, seed: int
) -> tuple[list[Slice], list[Slice]]:
    """Return the slices of the main metric, and those that the gate limits."""
    if not metrics:
        return [], []
    main_metric = next((name for name in MAIN_METRICS if name in metrics), metrics[0])
    shown = slice_by(measured, fields, main_metric, seed)
    limited = []
    for field, limits in gate.slices.items():
        for metric in limits.max_drop:
            same = [part for part in shown if part.field == field and part.metric == metric]
            limited += same or slice_by(measured, {field: fields[field]} if field in fields else {}, metric, seed)
    return shown, limited


def _few_seeds(measured: Sequence[Measured]) -> list[Notice]:
    """Return notices about configurations with a single seed: what their tests do not cover."""

    def has_one_seed(each: Measured) -> bool:
        return each.group.trained and len(each.points) == 1

    base, *candidates = measured
    single_runs = [each for each in candidates if len(each.points) == len(base.points) == 1]
    alone = [each for each in single_runs if has_one_seed(each) or has_one_seed(base)]
    several = any(len(each.points) > 1 for each in measured)
    borrowing = [each for each in candidates if has_one_seed(each) and len(base.points) > 1]
    if has_one_seed(base) and any(len(each.points) > 1 for each in candidates):
        borrowing.append(base)
    notices = []
    if alone:
        of = f"of {', '.join(each.group.name for each in alone)}" if several else "each"
        message = f"one seed {of}: the tests are about these models, not about their settings with other seeds"
        notices.append(Notice("seeds.one", message, "train with seed=1,2,3 (-m) to compare settings"))
    if borrowing:
        names = ", ".join(each.group.name for each in borrowing)
        message = f"one seed of {names}: its variance over seeds is unknown, and assumed equal to the other's"
        notices.append(Notice("seeds.one", message, "train it with further seeds"))
    return notices


def same_examples(groups: Sequence[Group]) -> list[Group]:
    """Return the groups with every table sorted by example id.

    Raises `UserError` for each table with other examples than the first one, with their number and some ids.
    """
    reference = set(groups[0].first["example_id"].to_pylist())
    faults = [fault for group in groups for run in group.runs for fault in _example_faults(run, groups[0], reference)]
    if faults:
        raise UserError(faults)
    return [
        Group(group.name, tuple(replace(run, table=run.table.sort_by("example_id")) for run in group.runs))
        for group in groups
    ]


def _example_faults(run: ScoredRun, baseline: Group, reference: set[str]) -> Iterator[Fault]:
    ids = run.table["example_id"].to_pylist()
    if len(set(ids)) < len(ids):
        message = f"its score table repeats {len(ids) - len(set(ids))} example ids"
        yield Fault("scores.repeated_examples", message, "score each example once", str(run.path))
    if not ids:
        yield Fault("scores.empty", "its score table has no examples", "score it on some", str(run.path))
    missing, extra = reference - set(ids), set(ids) - reference
    if missing or extra:
        message = f"not the test set of {baseline.name}: lacks {_count(missing)}, adds {_count(extra)}"
        fix = "score both models on the same split of the same data, or leave it out"
        fix = evaluation_fix(baseline.runs[0], run) or fix
        yield Fault("scores.different_examples", message, fix, str(run.path))


def _count(ids: set[str]) -> str:
    return f"{len(ids)} examples{f' ({listed(sorted(ids), 3)})' if ids else ''}"
