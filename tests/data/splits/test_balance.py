"""Balanced and mixed training rows: exact numbers, the same every time."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kamerton.data.splits.balance import balance_labels, label_weights, mix_sources, sample

ROWS = np.arange(100, 130)
LABELS = np.array([1] * 20 + [2] * 7 + [3] * 3, np.uint64)
IDS = np.random.default_rng(0).integers(0, 2**64, 30, np.uint64)


def labels_of(chosen: np.ndarray) -> Counter[int]:
    return Counter(LABELS[chosen - 100].tolist())


def test_oversampling_repeats_evenly() -> None:
    chosen = balance_labels(ROWS, LABELS, IDS, "over", 0)
    assert labels_of(chosen) == {1: 20, 2: 20, 3: 20}
    times = Counter(chosen.tolist())
    assert {times[row] for row in range(120, 127)} == {2, 3}
    assert set(times) == set(ROWS.tolist())


def test_undersampling_keeps_different_rows() -> None:
    chosen = balance_labels(ROWS, LABELS, IDS, "under", 0)
    assert labels_of(chosen) == {1: 3, 2: 3, 3: 3}
    assert len(set(chosen.tolist())) == 9
    assert chosen.tolist() == balance_labels(ROWS, LABELS, IDS, "under", 0).tolist()
    assert chosen.tolist() != balance_labels(ROWS, LABELS, IDS, "under", 1).tolist()


def test_weights_make_labels_count_the_same() -> None:
    weights = label_weights({"a": 30, "b": 10})
    assert weights["a"] * 30 == weights["b"] * 10 == 20


def test_mixing_repeats_by_weight() -> None:
    rows = np.arange(10_000)
    ids = np.random.default_rng(1).integers(0, 2**64, 10_000, np.uint64)
    weights = np.where(rows < 5000, 2.0, 0.25)
    times = np.bincount(mix_sources(rows, weights, ids, 0), minlength=10_000)
    assert (times[:5000] == 2).all()
    assert set(times[5000:]) == {0, 1}
    assert abs(times[5000:].mean() - 0.25) < 0.03


@given(
    ids=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=60, unique=True),
    most=st.integers(1, 70),
    data=st.data(),
)
def test_a_sample_depends_on_ids_and_seed_alone(ids: list[int], most: int, data: st.DataObject) -> None:
    """Whatever the order of the rows, and whichever other rows are not chosen; a smaller one is a part of it."""
    keys = np.array(ids, np.uint64)
    chosen = sample(keys, most, 42)
    assert len(chosen) == min(most, len(ids))
    assert (np.diff(chosen) > 0).all()
    shuffled = np.array(data.draw(st.permutations(ids)), np.uint64)
    assert set(shuffled[sample(shuffled, most, 42)]) == set(keys[chosen])
    assert set(sample(keys, max(1, most // 2), 42)) <= set(chosen)
    others = data.draw(st.lists(st.integers(0, len(ids) - 1)))  # that are not left out
    kept = np.union1d(chosen, np.array(others, np.int64))
    assert set(keys[kept][sample(keys[kept], most, 42)]) == set(keys[chosen])


def test_samples_of_two_seeds_differ() -> None:
    keys = np.arange(200, dtype=np.uint64)
    assert set(sample(keys, 50, 1)) != set(sample(keys, 50, 2))
