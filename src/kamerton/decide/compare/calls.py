"""Calls by function: how often each is called rightly, with wrong arguments, confused with another, or left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from kamerton.score.call_metrics import calls_by_row, canonical, has_calls, pairs
from kamerton.score.calls import Call, read_calls_text
from kamerton.words import listed

MAX_CONFUSED = 3  # functions named for each


@dataclass(slots=True)
class _Counts:
    """The calls of one function: those of the reference by their fate, and further ones in answers (`spurious`)."""

    due: int = 0
    right: int = 0
    arguments: int = 0
    invalid: int = 0
    missing: int = 0
    spurious: int = 0
    confused: Counter[str] = field(default_factory=Counter)


def calls_by_function(table: pa.Table) -> list[dict[str, Any]]:
    """Return a row `{function, due, right, arguments, invalid, confused, missing, spurious}` for each function.

    `due` is the number of calls in the references, of which `right` are equal, `arguments` have other arguments,
    `invalid` are no valid call, `confused` (a number by function) are calls of another function in the same turn, and
    `missing` have no call in their place. `spurious` are calls of the function without any of these in the reference.
    The most frequent function comes first; empty if the table holds no calls.
    """
    if not has_calls(table):
        return []
    functions: dict[str, _Counts] = {}
    for target, predicted in calls_by_row(table):
        if predicted is not None:
            _count(functions, read_calls_text(target), read_calls_text(predicted))
    return [
        {
            "function": name,
            **{key: getattr(counts, key) for key in ("due", "right", "arguments", "invalid")},
            "confused": dict(counts.confused.most_common()),
            "missing": counts.missing,
            "spurious": counts.spurious,
        }
        for name, counts in sorted(functions.items(), key=lambda item: (-item[1].due, item[0]))
    ]


def _count(functions: dict[str, _Counts], target: Sequence[Call], predicted: Sequence[Call]) -> None:
    """Add the calls of one turn."""
    matched = pairs(target, predicted)
    for i, j in matched:
        counts = functions.setdefault(target[i].name, _Counts())
        counts.due += 1
        if predicted[j].arguments is None:
            counts.invalid += 1
        elif canonical(target[i].arguments) == canonical(predicted[j].arguments):
            counts.right += 1
        else:
            counts.arguments += 1
    left = [call for i, call in enumerate(target) if i not in {pair[0] for pair in matched}]
    others = [call for j, call in enumerate(predicted) if j not in {pair[1] for pair in matched}]
    for i, call in enumerate(left):
        counts = functions.setdefault(call.name, _Counts())
        counts.due += 1
        if i >= len(others):
            counts.missing += 1
        elif others[i].name:
            counts.confused[others[i].name] += 1
        else:
            counts.invalid += 1
    for call in others[len(left) :]:
        functions.setdefault(call.name or "(no name)", _Counts()).spurious += 1


def unjudged(table: pa.Table) -> str | None:
    """Return a sentence on the turns whose calls are not judged; None if there are none."""
    count = sum(predicted is None for _, predicted in calls_by_row(table)) if has_calls(table) else 0
    if not count:
        return None
    turns = "1 turn are" if count == 1 else f"{count:,} turns are"
    reason = "as the chat template writes them, the calls of the reference cannot be read"
    return f"The calls of {turns} not judged: {reason}."


def confused_text(confused: dict[str, int]) -> str:
    """Return the functions that are called instead, most frequent first."""
    return listed([f"{name} ({count:,})" for name, count in confused.items()], MAX_CONFUSED)


def call_confusions(table: pa.Table) -> Counter[tuple[str, str]]:
    """Return how often calls of a function were something else, by the function and what was called instead."""
    counts: Counter[tuple[str, str]] = Counter()
    for row in calls_by_function(table):
        name = row["function"]
        counts.update({(name, other): count for other, count in row["confused"].items()})
        for key, other in _OTHERWISE.items():
            counts[name, other] += row[key]
        counts[NOT_DUE, name] += row["spurious"]
    return +counts


NOT_DUE = "(no call)"
_OTHERWISE = {"arguments": "(other arguments)", "invalid": "(invalid call)", "missing": NOT_DUE}
