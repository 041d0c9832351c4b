"""Splits that stay: an example's place depends on its content and the seed, not on where it stands in a file.

Every group of rows (by default: the rows with one prompt) has a number in [0, 1), a hash of its key and the seed; the
splits are consecutive stretches of that line as long as their ratios. So adding or reordering rows never moves another
row.

With stratification the same numbers are ranked within each stratum and the ranks are cut at the ratios, so every
stratum has its exact share (to one group) in every split. Order still never matters, but a row added to a stratum can
move the rows next to that stratum's two cuts. More is impossible: if no added row ever moved another, a row's split
could depend on nothing but the row, and shares would be left to chance.

Splits by time are cut at the ratios of the rows in order of time; rows of one time stay together, in the earlier split.
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
from kamerton.data.store import hash64, prompt_key, stored_prompt
from kamerton.errors import Fault, UserError

Keys = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int8]
NAMES = ("train", "validation", "test")
FOLD_SALT = 1_000_003  # added to the seed, so that folds do not follow the cut of the test split


def unit_numbers(keys: Keys, seed: int) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each key: SplitMix64 (Steele, Lea and Flood 2014) of the key and the seed."""
    with np.errstate(over="ignore"):
        z = keys + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


def assign(groups: Keys, ratios: Sequence[float], seed: int, strata: Keys | None = None) -> Places:
    """The split (0, 1, 2 ...) of each row; rows with one group key always share it. `groups` and `strata`: [rows]."""
    cuts = _cuts(ratios)
    if strata is None:
        return np.searchsorted(cuts, unit_numbers(groups, seed), side="right").astype(np.int8)
    unique, first, inverse, counts = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    stratum = strata[first].copy()
    np.minimum.at(stratum, inverse, strata)  # a group with several: the smallest, whatever the order of its rows
    return _ranked(unit_numbers(unique, seed), stratum, counts, cuts)[inverse]


def _cuts(ratios: Sequence[float]) -> npt.NDArray[np.float64]:
    """Where one split ends and the next begins, in [0, 1]; a last split of ratio 0 gets nothing."""
    cuts: npt.NDArray[np.float64] = np.cumsum(np.asarray(ratios, np.float64))[:-1]
    cuts[np.isclose(cuts, 1, rtol=0, atol=1e-9)] = 1.0
    return cuts


def _ranked(
    numbers: npt.NDArray[np.float64], strata: Keys, counts: npt.NDArray[np.int64], cuts: npt.NDArray[np.float64]
) -> Places:
    """Each group's split: where the middle of its rows stands among its stratum's rows, against the cuts."""
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


def assign_by_time(times: npt.NDArray[Any], ratios: Sequence[float]) -> Places:
    """The split of each row when the oldest train and the newest test."""
    ranks = np.searchsorted(np.sort(times), times, side="left")  # equal times have equal ranks
    return np.searchsorted(_cuts(ratios), (ranks + 0.5) / max(len(times), 1), side="right").astype(np.int8)


def fold(groups: Keys, places: Places, folds: int, chosen: int, seed: int, strata: Keys | None = None) -> Places:
    """`places` with all that is not in test cut into folds: the chosen one is validation, the others train."""
    rest = np.flatnonzero(places != 2)
    number = assign(groups[rest], [1 / folds] * folds, seed + FOLD_SALT, None if strata is None else strata[rest])
    result = places.copy()
    result[rest] = (number == chosen).astype(np.int8)
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
        key = np.array([_group_key(example, options.group)], np.uint64)
        yield NAMES[int(assign(key, options.ratios, options.seed)[0])], example


def _group_key(example: DataExample, group: str | None) -> int:
    if group is None:
        return int(example.id, 16)
    if group == "prompt":
        return prompt_key(stored_prompt(example.prompt) or example.completion)
    value = known_value(example.metadata.get(group))
    if value is None:
        message = f"example {example.id} has nothing in the metadata field {group!r}, which split.group names"
        fix = f"fill in {group}, or leave the example out"
        raise UserError([Fault("missing-metadata", message, fix, column=group)])
    return field_key(value)


def known_value(value: object) -> object | None:
    """The value of a metadata field, or None if it is missing: null, NaN, or a text with nothing but spaces."""
    if isinstance(value, str):
        return value if value.strip() else None
    is_nan = isinstance(value, Real | datetime) and value != value  # noqa: PLR0124 - pandas' NaT is a datetime
    return None if is_nan else value


def field_key(value: object) -> int:
    """The key of a metadata value."""
    return hash64(json.dumps(value, sort_keys=True, default=str).encode())
