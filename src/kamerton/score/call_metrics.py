"""Metrics of calls: a turn's calls against those of its reference.

As in the Berkeley Function Calling Leaderboard (Patil et al. 2025), a call is right if it has the function of the
reference and equal arguments as values, not as text; parallel calls have no order. There, a reference lists several
allowed values of an argument; here it is one call, and defaults of a schema are not filled in.

Arguments are equal as JSON: 1 equals 1.0, the order of keys does not matter, that of lists does.

Shapes: any leading axes, then the counts of `call_counts` in the last one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kamerton.score.calls import Call, read_calls_text

Counts = NDArray[np.float64]
Leaf = tuple[tuple[str | int, ...], str]  # a path in the arguments, and the value there as JSON
CALL_METRICS = {  # by name: the positions of numerator and denominator in the counts
    "call_exact": (0, 7),
    "call_function": (1, 7),
    "call_arguments": (2, 7),
    "call_valid_json": (5, 6),
    "call_count": (3, 7),
    "call_spurious": (9, 8),
    "call_missing": (4, 7),
}


@dataclass(frozen=True, slots=True)
class CallScores:
    """The scores of one turn; all are 1, or False for the last two, if the calls are those of the reference.

    Args:
        exact: whether the calls are the reference's, in any order.
        function: whether the functions are the reference's, each as often.
        arguments: F1 of the arguments' values by path, over the calls of equal functions in the best assignment.
        count: whether there are as many calls as in the reference.
        valid: the share of calls that are valid; None without calls.
        spurious: whether there is a call, but none in the reference.
        missing: whether there is no call, but one in the reference.
    """

    exact: bool
    function: bool
    arguments: float
    count: bool
    valid: float | None
    spurious: bool
    missing: bool


def compare_calls(target: Sequence[Call], predicted: Sequence[Call]) -> CallScores:
    """Return the scores of a turn's calls."""
    names = [Counter(call.name for call in calls) for calls in (target, predicted)]
    calls_as_json = [Counter(map(_canonical_call, calls)) for calls in (target, predicted)]
    all_valid = all(call.arguments is not None for call in predicted)
    return CallScores(
        exact=all_valid and calls_as_json[0] == calls_as_json[1],
        function=names[0] == names[1],
        arguments=_arguments_f1(target, predicted, same=names[0] == names[1] and all_valid),
        count=len(target) == len(predicted),
        valid=sum(call.arguments is not None for call in predicted) / len(predicted) if predicted else None,
        spurious=bool(predicted) and not target,
        missing=bool(target) and not predicted,
    )


def _arguments_f1(target: Sequence[Call], predicted: Sequence[Call], *, same: bool) -> float:
    """Return 2 x common / (all of the reference + all of the answer); without any arguments, whether `same`."""
    sizes = [sum(len(leaves(call)) for call in calls) for calls in (target, predicted)]
    if not sum(sizes):
        return float(same)
    common = sum(len(leaves(target[i]) & leaves(predicted[j])) for i, j in pairs(target, predicted))
    return 2 * common / sum(sizes)


def pairs(target: Sequence[Call], predicted: Sequence[Call]) -> list[tuple[int, int]]:
    """Return the pairs of calls of the same function, as many as possible, with the most values in common."""
    result = []
    for name in dict.fromkeys(call.name for call in target):
        rows, columns = ([i for i, call in enumerate(calls) if call.name == name] for calls in (target, predicted))
        if not columns:
            continue
        equal = np.array([[len(leaves(target[i]) & leaves(predicted[j])) for j in columns] for i in rows])
        if equal.size == 1:
            result.append((rows[0], columns[0]))
            continue
        from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]  # takes half a second

        result += [(rows[i], columns[j]) for i, j in zip(*linear_sum_assignment(-equal), strict=True)]
    return result


def leaves(call: Call) -> frozenset[Leaf]:
    """Return the values of a call's arguments by path; an empty object or list is a value. Invalid calls have none."""
    return frozenset(_leaves(call.arguments or {}, ())) if call.arguments else frozenset()


def _leaves(value: Any, path: tuple[str | int, ...]) -> Iterator[Leaf]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list) and value:
        for i, inner in enumerate(value):
            yield from _leaves(inner, (*path, i))
    else:
        yield path, canonical(value)


def canonical(value: Any) -> str:
    """Return a JSON value as a text that is the same for equal values."""
    return json.dumps(_with_one_number(value), sort_keys=True, ensure_ascii=False)


def _with_one_number(value: Any) -> Any:
    """Return the value with whole numbers as integers."""
    if isinstance(value, Mapping):
        return {key: _with_one_number(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_one_number(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _canonical_call(call: Call) -> tuple[str, str]:
    return call.name, call.invalid if call.arguments is None else canonical(call.arguments)


def has_calls(table: pa.Table) -> bool:
    """Return whether the table holds calls to judge: generated answers to data with functions."""
    return "predicted_calls" in table.column_names and table["predicted_calls"].null_count < table.num_rows


def calls_by_row(table: pa.Table) -> list[tuple[str | None, str | None]]:
    """Return the cells `target_calls` and `predicted_calls` of each row; the second is None for rows not judged."""
    columns = (table[name].to_pylist() for name in ("target_calls", "predicted_calls"))
    return list(zip(*columns, strict=True))


def calls_right(table: pa.Table) -> NDArray[np.bool_]:
    """Return whether each row's calls are those of its reference, `[rows]`; True for rows that are not judged."""
    cells = calls_by_row(table)
    return np.array(
        [
            predicted is None or compare_calls(read_calls_text(target), read_calls_text(predicted)).exact
            for target, predicted in cells
        ],
        np.bool_,
    )


def call_counts(table: pa.Table) -> Counts:
    """Return counts by row, `[rows, 10]`, for `call_metrics`; rows without judged calls count nothing.

    For a row whose reference has calls: exact, function, arguments, count, missing; for every row: valid calls, calls;
    then whether the reference has calls, has none, and whether calls are spurious.
    """
    rows = [_counts(*cells) for cells in calls_by_row(table)]
    return np.array(rows, np.float64).reshape(-1, 10)


@lru_cache(maxsize=20_000)  # a report computes the metrics of the same table several times
def _counts(target_text: str | None, predicted_text: str | None) -> tuple[float, ...]:
    if predicted_text is None:
        return (0.0,) * 10
    target, predicted = read_calls_text(target_text), read_calls_text(predicted_text)
    scores, due = compare_calls(target, predicted), bool(target)
    of_due = (scores.exact, scores.function, scores.arguments, scores.count, scores.missing)
    valid = sum(call.arguments is not None for call in predicted)
    return (*(float(value) * due for value in of_due), valid, len(predicted), due, not due, scores.spurious)


def call_metrics(sums: Counts) -> dict[str, NDArray[np.float64]]:
    """Return the metrics from sums of counts over rows, each from 0 to 1; NaN if nothing counts.

    Over turns whose reference has calls: the share with exactly these calls (`call_exact`), with these functions
    (`call_function`), with this number of calls (`call_count`), without a call (`call_missing`, lower is better), and
    the mean F1 of arguments (`call_arguments`). Over all calls made: the share of valid ones (`call_valid_json`). Over
    turns whose reference has no calls: the share with a call (`call_spurious`, lower is better).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return {name: np.divide(sums[..., i], sums[..., j]) for name, (i, j) in CALL_METRICS.items()}
