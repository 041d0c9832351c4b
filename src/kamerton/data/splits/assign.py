"""Stable splits: an example's split depends on its content and the seed, not on its position in a file.

Every group of rows (by default: the rows with the same prompt) has a number in [0, 1), a hash of its key and the seed;
the splits are consecutive intervals whose lengths are the ratios. Adding or reordering rows therefore never moves
another row.

With stratification the same numbers are ranked within each stratum and the ranks are divided at the ratios, so every
stratum has its exact share (to one group) in every split. Order still never matters, but a row added to a stratum can
move the rows next to that stratum's two boundaries. This is unavoidable: if no added row ever moved another, a row's
split could depend on the row alone, and shares would be left to chance.

Splits by time are divided at the ratios of the rows in order of time; rows with equal times stay together, in the
earlier split.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from kamerton.data.example import DataExample
from kamerton.data.options import SplitOptions
from kamerton.data.stored import hash64, prompt_key, stored_prompt
from kamerton.errors import Fault, UserError

Keys = npt.NDArray[np.uint64]
Assignment = npt.NDArray[np.int8]
NAMES = ("train", "validation", "test")
FOLD_SALT = 1_000_003  # added to the seed, so that folds are independent of the test split


def unit_numbers(keys: Keys, seed: int) -> npt.NDArray[np.float64]:
    """Return a number in [0, 1) for each key: SplitMix64 (Steele, Lea and Flood 2014) of the key and the seed."""
    with np.errstate(over="ignore"):
        z = keys + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


def assign(groups: Keys, ratios: Sequence[float], seed: int, strata: Keys | None = None) -> Assignment:
    """Return the split (0, 1, 2 ...) of each row; rows with the same group key always share it.

    `groups` and `strata` are [rows].
    """
    cuts = _cuts(ratios)
    if strata is None:
        return np.searchsorted(cuts, unit_numbers(groups, seed), side="right").astype(np.int8)
    unique, first, inverse, counts = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    stratum = strata[first].copy()
    np.minimum.at(stratum, inverse, strata)  # a group with several strata: the smallest, independent of row order
    return _assign_by_rank(unit_numbers(unique, seed), stratum, counts, cuts)[inverse]


def _cuts(ratios: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return the boundaries between consecutive splits, in [0, 1]; a last split of ratio 0 gets no rows."""
    cuts: npt.NDArray[np.float64] = np.cumsum(np.asarray(ratios, np.float64))[:-1]
    cuts[np.isclose(cuts, 1, rtol=0, atol=1e-9)] = 1.0
    return cuts


def _assign_by_rank(
    numbers: npt.NDArray[np.float64], strata: Keys, counts: npt.NDArray[np.int64], cuts: npt.NDArray[np.float64]
) -> Assignment:
    """Return each group's split: the quantile of the middle of its rows within its stratum, against the cuts."""
    result = np.empty(len(numbers), np.int8)
    if not len(numbers):
        return result
    order = np.lexsort((numbers, strata))
    sizes = counts[order].astype(np.float64)
    ends = np.cumsum(sizes)
    _, starts, members = np.unique(strata[order], return_index=True, return_counts=True)
    before = np.repeat(ends[starts] - sizes[starts], members)
    total = np.repeat(np.add.reduceat(sizes, starts), members)
    result[order] = np.searchsorted(cuts, (ends - sizes / 2 - before) / total, side="right")
    return result


def assign_by_time(times: npt.NDArray[Any], ratios: Sequence[float]) -> Assignment:
    """Return the split of each row, with the oldest rows in train and the newest in test."""
    ranks = np.searchsorted(np.sort(times), times, side="left")  # equal times have equal ranks
    return np.searchsorted(_cuts(ratios), (ranks + 0.5) / max(len(times), 1), side="right").astype(np.int8)


def assign_fold(
    groups: Keys, assignment: Assignment, folds: int, fold: int, seed: int, strata: Keys | None = None
) -> Assignment:
    """Return the assignment with the rows outside test divided into folds: `fold` is validation, the others train."""
    rest = np.flatnonzero(assignment != 2)
    folds_of_rest = assign(
        groups[rest], [1 / folds] * folds, seed + FOLD_SALT, None if strata is None else strata[rest]
    )
    result = assignment.copy()
    result[rest] = (folds_of_rest == fold).astype(np.int8)
    return result


def split(examples: Iterable[DataExample], options: SplitOptions | None = None) -> Iterator[tuple[str, DataExample]]:
    """Yield each example with the name of its split, in the given order; nothing is held in memory.

    Without `stratify`, `time` and `folds`, the split of an example depends on its contents alone.

    Args:
        examples: any examples.
        options: how to split; by default 70, 15 and 15 %, grouped by prompt.

    Returns:
        An iterator over pairs of `train`, `validation` or `test`, and the example.

    Raises:
        ValueError: if `stratify`, `time` or `folds` is set: use `prepare`.
        UserError: if an example lacks the field of `group`.

    Example:
        >>> from collections import Counter
        >>> from kamerton import DataOptions, read_examples, split
        >>> parts = split(read_examples(DataOptions(path="questions.jsonl")))
        >>> sorted(Counter(name for name, example in parts))
        ['test', 'train', 'validation']
    """
    options = options or SplitOptions()
    if options.stratify or options.time or options.folds:
        raise ValueError("stratify, time and folds need all examples at once: use prepare()")
    for example in examples:
        if options.group is None:
            key = int(example.id, 16)
        elif options.group == "prompt":
            key = prompt_key(stored_prompt(example.prompt) or example.completion)
        else:
            value = present_value(example.metadata.get(options.group))
            if value is None:
                message = f"example {example.id} has no value in the metadata field {options.group!r} of split.group"
                fix = f"fill in {options.group}, or leave the example out"
                raise UserError([Fault("missing-metadata", message, fix, column=options.group)])
            key = field_key(value)
        yield NAMES[int(assign(np.array([key], np.uint64), options.ratios, options.seed)[0])], example


def present_value(value: object) -> object | None:
    """Return the value of a metadata field, or None if it is missing: null, NaN, or a blank text."""
    if isinstance(value, str):
        return value if value.strip() else None
    is_nan = isinstance(value, Real | datetime) and value != value  # noqa: PLR0124 - pandas' NaT is a datetime
    return None if is_nan else value


def field_key(value: object) -> int:
    """Return the group key of a metadata value."""
    return hash64(json.dumps(value, sort_keys=True, default=str).encode())
