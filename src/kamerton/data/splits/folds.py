"""Folds of a cross-validation: every row is held out once, and nothing alike is on both sides of a fold.

Rows that share a group, a prompt or a cluster of near duplicates are one unit and stay together. Folds are as even as
the units allow, in all rows and in every stratum: units of several rows go, largest first, to the fold where the sum
of squared shares grows least (the greedy rule of Karmarkar and Karp's number partitioning, 1982, in the form that
scikit-learn's StratifiedGroupKFold uses); units of one row then fill up what is uneven. Which rows are put first, and
which single row fills which gap, is decided by a hash of the unit and the seed, so the order of the files never
matters. A row that is added can move others: even folds are a property of all rows together.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from kamerton.data.splits.assign import FOLD_SALT, Keys, Places, unit_numbers

Counts = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


def units(ids: Keys, *keys: Keys) -> Keys:
    """What must stay together: rows that share any of the `keys`, directly or through others: [rows].

    A unit's key is the smallest id in it, so it does not depend on the order of the rows.
    """
    together = np.arange(len(ids))
    for key in keys:
        numbers = np.unique(key, return_inverse=True)[1]
        size = len(ids)  # there are no more groups or values than rows
        links = coo_array((np.ones(size, np.int8), (together, size + numbers)), shape=(2 * size, 2 * size))
        together = connected_components(links, directed=False)[1][together]
    smallest = np.full(together.max(initial=-1) + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(smallest, together, ids)
    return smallest[together]


def even_folds(groups: Keys, folds: int, seed: int, strata: Keys | None = None) -> Places:
    """The fold (0 to `folds` - 1) of each row; rows of one group always share it. `groups` and `strata`: [rows]."""
    unique, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    stratum = np.zeros(len(groups), np.int64) if strata is None else np.unique(strata, return_inverse=True)[1]
    numbers = unit_numbers(unique, seed + FOLD_SALT)
    load = np.zeros((folds, int(stratum.max(initial=0)) + 1), np.int64)
    found = np.zeros(len(unique), np.int8)
    _place_groups(found, load, numbers, sizes, inverse, stratum)
    first = np.zeros(len(unique), np.int64)
    first[inverse] = stratum
    for one in range(load.shape[1]):
        singles = np.flatnonzero((sizes == 1) & (first == one))
        singles = singles[np.argsort(numbers[singles], kind="stable")]
        quotas = _quotas(load[:, one], load.sum(axis=1), len(singles))
        found[singles] = np.repeat(np.arange(folds), quotas)
        load[:, one] += quotas
    return found[inverse]


def _place_groups(
    found: Places, load: Counts, numbers: Numbers, sizes: Counts, inverse: Counts, stratum: Counts
) -> None:
    """Groups of several rows, largest first: writes their fold to `found` and their rows to `load` [folds, strata]."""
    rows = np.argsort(inverse, kind="stable")
    starts = np.cumsum(sizes) - sizes
    total = np.maximum(np.bincount(stratum, minlength=load.shape[1]), 1)
    several = np.flatnonzero(sizes > 1)
    for group in several[np.lexsort((numbers[several], -sizes[several]))].tolist():
        members = rows[starts[group] : starts[group] + sizes[group]]
        counts = np.bincount(stratum[members], minlength=load.shape[1])
        growth = load @ (counts / total)  # of the sum of squares, but for what is the same in every fold
        chosen = int(np.lexsort((load.sum(axis=1), growth))[0])
        found[group] = chosen
        load[chosen] += counts


def _quotas(load: Counts, sizes: Counts, count: int) -> Counts:
    """How many of `count` single rows each fold gets so that `load` becomes even; what is over goes to small folds."""
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
