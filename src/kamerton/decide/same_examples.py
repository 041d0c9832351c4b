"""Whether the sides of a comparison were scored on the same examples, and their tables in one order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from kamerton.decide.sides import Group, Scored
from kamerton.errors import Fault, UserError


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
