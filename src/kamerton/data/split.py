"""Splits that stay: an example's place depends on its content and the seed, not on where it stands in a file.

Every row has a number in [0, 1), a hash of (seed, group key); the splits are consecutive stretches of that line as long as their
ratios. Without stratification adding or reordering rows therefore never moves another row.

With stratification the same numbers are ranked within each stratum and cut at the ratios, so that every stratum has its exact
share (to one group) in every split. Order still never matters; a row added to a stratum can move the rows at that stratum's two cuts and no others.
(More is impossible: if no added row ever moved another, a row's split could depend on nothing but the row itself, and shares would be left to chance.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]


def unit_numbers(keys: Keys, seed: int) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each key: SplitMix64 (Steele et al. 2014) of the key and the seed."""
    with np.errstate(over="ignore"):
        z = keys + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)) * 2.0**-53


def assign(
    groups: Keys, ratios: Sequence[float], seed: int, strata: Keys | None = None
) -> npt.NDArray[np.int8]:
    """The split (0, 1, 2 ...) of each row; rows with one group key always share it. `groups` and `strata`: [rows]."""
    cuts = np.cumsum(ratios)[:-1]
    if strata is None:
        return np.searchsorted(cuts, unit_numbers(groups, seed), side="right").astype(np.int8)
    unique, first, inverse, counts = np.unique(
        groups, return_index=True, return_inverse=True, return_counts=True
    )
    return _ranked(unit_numbers(unique, seed), _group_strata(strata, inverse, first), counts, cuts)[inverse]


def _group_strata(strata: Keys, inverse: npt.NDArray[np.int64], first: npt.NDArray[np.int64]) -> Keys:
    """A group's stratum: the smallest of its rows' strata, so that the order of rows does not matter."""
    smallest = strata[first].copy()
    np.minimum.at(smallest, inverse, strata)
    return smallest


def _ranked(
    numbers: npt.NDArray[np.float64],
    strata: Keys,
    counts: npt.NDArray[np.int64],
    cuts: npt.NDArray[np.float64],
) -> npt.NDArray[np.int8]:
    """Each group's split: its middle row's rank within the stratum, as a share of the stratum, against the cuts."""
    order = np.lexsort((numbers, strata))
    sizes = counts[order].astype(np.float64)
    ends = np.cumsum(sizes)
    _, starts, members = np.unique(strata[order], return_index=True, return_counts=True)
    before = np.repeat(ends[starts] - sizes[starts], members)
    total = np.repeat(np.add.reduceat(sizes, starts), members) if len(sizes) else sizes
    middle = (ends - sizes / 2 - before) / total
    result = np.empty(len(numbers), np.int8)
    result[order] = np.searchsorted(cuts, middle, side="right")
    return result
