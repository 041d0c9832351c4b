"""Balancing the training split (over- and undersampling, source weights and label weights), and sampling a split."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kamerton.data.splits.assign import Keys, unit_numbers
from kamerton.data.store import Index

BALANCE_SALT, MIX_SALT, SAMPLE_SALT = (
    2_000_003,
    3_000_017,
    4_000_037,
)  # added to the seed, so that sampling is independent of the splits


def balance_labels(rows: Index, labels: Keys, ids: Keys, how: str, seed: int) -> Index:
    """Return `rows` with every label as frequent as the most ("over") or least ("under") frequent one; [n] → [m].

    Oversampling repeats a label's rows and fills the remainder with rows chosen by a hash of id and seed; undersampling
    keeps rows chosen the same way.
    """
    if how not in ("over", "under") or not len(rows):
        return rows
    unique, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    goal = int(counts.max() if how == "over" else counts.min())
    numbers = unit_numbers(ids, seed + BALANCE_SALT)
    parts = []
    for label in range(len(unique)):
        members = np.flatnonzero(inverse == label)
        members = members[np.argsort(numbers[members], kind="stable")]
        parts.append(np.resize(members, goal))
    return rows[np.sort(np.concatenate(parts))]


def mix_sources(rows: Index, weights: npt.NDArray[np.float64], ids: Keys, seed: int) -> Index:
    """Return `rows`, each repeated by the weight of its source; a hash of id and seed decides the fractional part."""
    floor = np.floor(weights).astype(np.int64)
    times = floor + (unit_numbers(ids, seed + MIX_SALT) < weights - floor)
    return np.repeat(rows, times)


def label_weights(counts: dict[str, int]) -> dict[str, float]:
    """Return the loss weight of each label: rows / (labels * rows of the label), so that the mean over rows is 1."""
    rows = sum(counts.values())
    return {label: rows / (len(counts) * count) for label, count in counts.items() if count}


def sample(ids: Keys, most: int, seed: int) -> Index:
    """Return the positions, in order, of at most `most` rows, chosen by a hash of id and seed.

    A smaller sample is part of every larger one. Whether a row is chosen depends on no order of the rows.
    """
    return np.sort(np.argsort(unit_numbers(ids, seed + SAMPLE_SALT), kind="stable")[:most])
