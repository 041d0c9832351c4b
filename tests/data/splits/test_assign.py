"""Splits are stable when rows are added or reordered, keep groups together, and have the configured ratios."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamerton.data.example import DataExample
from kamerton.data.options import SplitOptions
from kamerton.data.splits.assign import assign, assign_by_time, assign_fold, split, unit_numbers
from kamerton.errors import UserError

RATIOS = [0.7, 0.15, 0.15]
keys = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=200).map(lambda values: np.array(values, np.uint64))


def random_keys(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, count, np.uint64)


@given(keys, keys, st.integers(0, 2**32), st.randoms())
def test_adding_and_reordering_rows_keeps_their_splits(
    old: np.ndarray, new: np.ndarray, seed: int, random: object
) -> None:
    before = dict(zip(old.tolist(), assign(old, RATIOS, seed).tolist(), strict=True))
    together = np.concatenate([old, new])
    random.shuffle(together)  # type: ignore[attr-defined]
    after = dict(zip(together.tolist(), assign(together, RATIOS, seed).tolist(), strict=True))
    assert all(after[key] == place for key, place in before.items())


@given(keys, st.integers(0, 5), st.randoms())
def test_stratified_splits_do_not_depend_on_order(groups: np.ndarray, seed: int, random: object) -> None:
    strata = groups % np.uint64(3)
    order = np.arange(len(groups))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert (assign(groups, RATIOS, seed, strata)[order] == assign(groups[order], RATIOS, seed, strata[order])).all()


@given(keys, st.integers(0, 3), st.booleans())
def test_a_group_is_never_in_two_splits(groups: np.ndarray, seed: int, stratified: bool) -> None:
    groups = groups % np.uint64(7)
    strata = np.arange(len(groups)).astype(np.uint64) % np.uint64(2)
    places = assign(groups, RATIOS, seed, strata if stratified else None)
    seen = {(int(group), int(place)) for group, place in zip(groups, places, strict=True)}
    assert len(seen) == len(np.unique(groups))


@given(st.integers(1, 400), st.integers(0, 9))
def test_strata_have_their_shares_to_one_row(count: int, seed: int) -> None:
    places = assign(random_keys(count, seed), RATIOS, seed, np.zeros(count, np.uint64))
    for number, ratio in enumerate(RATIOS):
        assert abs((places == number).sum() - ratio * count) <= 1


def test_one_added_row_moves_at_most_the_rows_at_the_cuts() -> None:
    groups = random_keys(300)
    strata = np.zeros(300, np.uint64)
    before = assign(groups[:-1], RATIOS, 1, strata[:-1])
    assert (before != assign(groups, RATIOS, 1, strata)[:-1]).sum() <= 2


def test_shares_without_strata_are_close() -> None:
    counts = np.bincount(assign(random_keys(20_000), RATIOS, 3)) / 20_000
    assert np.abs(counts - RATIOS).max() < 0.012


@pytest.mark.parametrize("stratified", [False, True])
def test_another_seed_is_another_split(stratified: bool) -> None:
    groups = random_keys(1000)
    strata = np.zeros(1000, np.uint64) if stratified else None
    same = (assign(groups, RATIOS, 0, strata) == assign(groups, RATIOS, 1, strata)).mean()
    assert abs(same - sum(ratio**2 for ratio in RATIOS)) < 0.06


def test_numbers_are_uniform_and_change_with_the_seed() -> None:
    numbers = unit_numbers(np.arange(10_000, dtype=np.uint64), 0)
    assert np.abs(np.histogram(numbers, 10, (0, 1))[0] - 1000).max() < 150
    assert abs(np.corrcoef(numbers, unit_numbers(np.arange(10_000, dtype=np.uint64), 1))[0, 1]) < 0.05


def test_a_split_of_ratio_zero_is_empty() -> None:
    groups = random_keys(5000)
    assert set(assign(groups, [0.9, 0.1, 0.0], 0)) == {0, 1}
    assert set(assign(groups, [0.9, 0.0, 0.1], 0)) == {0, 2}
    assert set(assign(groups, [1.0, 0.0, 0.0], 0)) == {0}


@pytest.mark.parametrize("stratified", [False, True])
def test_folds_cut_what_is_not_test_into_equal_parts(stratified: bool) -> None:
    groups = random_keys(3000)
    strata = (groups % np.uint64(4)) if stratified else None
    places = assign(groups, RATIOS, 7)
    folds = [assign_fold(groups, places, 5, chosen, 7, strata) for chosen in range(5)]
    for result in folds:
        assert ((result == 2) == (places == 2)).all()
    times_in_validation = sum((result == 1).astype(int) for result in folds)
    assert (times_in_validation[places != 2] == 1).all()
    sizes = [int((result == 1).sum()) for result in folds]
    assert max(sizes) - min(sizes) <= (8 if stratified else 150)


def test_the_newest_rows_are_tested() -> None:
    times = np.array([5.0, 1.0, 3.0, 2.0, 4.0, 4.0, 4.0, 0.0, 9.0, 8.0])
    places = assign_by_time(times, [0.6, 0.2, 0.2])
    assert times[places == 0].max() < times[places == 1].min() <= times[places == 1].max() < times[places == 2].min()
    assert len(set(places[times == 4.0])) == 1


def examples(count: int) -> list[DataExample]:
    return [DataExample(f"question {i}", str(i % 3), {"book": i % 10}) for i in range(count)]


def test_the_streaming_split_agrees_with_itself_in_any_order() -> None:
    rows = examples(300)
    split_of = {example.id: name for name, example in split(rows)}
    assert {example.id: name for name, example in split(reversed(rows))} == split_of
    assert set(Counter(split_of.values())) == {"train", "validation", "test"}


def test_the_streaming_split_keeps_groups_whole() -> None:
    places = {(example.metadata["book"], name) for name, example in split(examples(300), SplitOptions(group="book"))}
    assert len(places) == 10


def test_the_streaming_split_takes_endless_input_but_not_options_that_need_all() -> None:
    def endless() -> object:
        while True:
            yield DataExample("a", "b")

    assert next(iter(split(endless())))[1].prompt == "a"  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="prepare"):
        next(iter(split([], SplitOptions(stratify="label"))))


@pytest.mark.parametrize("missing", [None, "", "  ", float("nan")])
def test_the_streaming_split_refuses_an_example_without_its_group(missing: object) -> None:
    rows = [*examples(3), DataExample("question", "answer", {"book": missing})]
    with pytest.raises(UserError, match="missing-metadata"):
        list(split(rows, SplitOptions(group="book")))
