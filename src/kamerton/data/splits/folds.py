"""Folds of a cross-validation: every row is held out once, and no duplicates are on both sides of a fold.

Rows that share a group, a prompt or a cluster of near duplicates are one unit and stay together. Folds are as even as
the units allow, over all rows and in every stratum: units of several rows go, largest first, to the fold where the sum
of squared shares grows least (the greedy rule of Karmarkar and Karp's number partitioning, 1982, in the form that
scikit-learn's StratifiedGroupKFold uses); units of one row then even out the folds. A hash of the unit and the seed
breaks ties and orders single rows, so the order of the files never matters. An added row can move others, because even
folds are a property of all rows together.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from kamerton.data.splits.assign import FOLD_SALT, Assignment, Keys, unit_numbers

Counts = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


def connected_groups(ids: Keys, *keys: Keys) -> Keys:
    """Return the unit of each row: rows that share any of the `keys`, directly or through others: [rows].

    A unit's key is its smallest id, so it does not depend on the order of the rows.
    """
    group = np.arange(len(ids))
    for key in keys:
        numbers = np.unique(key, return_inverse=True)[1]
        size = len(ids)  # an upper bound of groups and of values
        links = coo_array((np.ones(size, np.int8), (group, size + numbers)), shape=(2 * size, 2 * size))
        group = connected_components(links, directed=False)[1][group]
    smallest = np.full(group.max(initial=-1) + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(smallest, group, ids)
    return smallest[group]


def even_folds(groups: Keys, folds: int, seed: int, strata: Keys | None = None) -> Assignment:
    """Return the fold (0 to `folds` - 1) of each row; rows of one group share it. `groups` and `strata`: [rows]."""
    unique, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    stratum = np.zeros(len(groups), np.int64) if strata is None else np.unique(strata, return_inverse=True)[1]
    numbers = unit_numbers(unique, seed + FOLD_SALT)
    load = np.zeros((folds, int(stratum.max(initial=0)) + 1), np.int64)
    fold = np.zeros(len(unique), np.int8)  # of each group
    _assign_large_groups(fold, load, numbers, sizes, inverse, stratum)
    group_stratum = np.zeros(len(unique), np.int64)
    group_stratum[inverse] = stratum
    for k in range(load.shape[1]):
        singles = np.flatnonzero((sizes == 1) & (group_stratum == k))
        singles = singles[np.argsort(numbers[singles], kind="stable")]
        quotas = _quotas(load[:, k], load.sum(axis=1), len(singles))
        fold[singles] = np.repeat(np.arange(folds), quotas)
        load[:, k] += quotas
    return fold[inverse]


def _assign_large_groups(
    fold: Assignment, load: Counts, numbers: Numbers, sizes: Counts, inverse: Counts, stratum: Counts
) -> None:
    """Assign groups of several rows, largest first: writes to `fold` [groups], adds rows to `load` [folds, strata]."""
    rows = np.argsort(inverse, kind="stable")
    starts = np.cumsum(sizes) - sizes
    total = np.maximum(np.bincount(stratum, minlength=load.shape[1]), 1)
    several = np.flatnonzero(sizes > 1)
    for group in several[np.lexsort((numbers[several], -sizes[several]))].tolist():
        members = rows[starts[group] : starts[group] + sizes[group]]
        counts = np.bincount(stratum[members], minlength=load.shape[1])
        growth = load @ (counts / total)  # of the sum of squares, without the terms that are the same in every fold
        chosen = int(np.lexsort((load.sum(axis=1), growth))[0])
        fold[group] = chosen
        load[chosen] += counts


def _quotas(load: Counts, sizes: Counts, count: int) -> Counts:
    """Return how many of `count` single rows each fold gets to even out `load`; the remainder goes to small folds."""
    order = np.argsort(load, kind="stable")
    for filled in range(len(load), 0, -1):
        level = (int(load[order[:filled]].sum()) + count) // filled
        if level >= load[order[filled - 1]]:
            break
    quotas = np.zeros_like(load)
    lowest = order[:filled]
    quotas[lowest] = level - load[lowest]
    small = lowest[np.argsort((sizes + quotas)[lowest], kind="stable")]
    quotas[small[: count - int(quotas.sum())]] += 1
    return quotas
