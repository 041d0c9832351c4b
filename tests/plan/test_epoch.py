"""The epoch plan: every example once, membership untouched by the cut, budgets kept."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kamerton.plan.epoch import EpochPlan, group_lengths, membership, plan_epoch
from kamerton.plan.packing import Packing, pack_examples

CUTS: tuple[Packing, ...] = ("padded", "packed", "tree")

corpora = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=40)


def plan_of(corpus: list[list[int]], **options: Any) -> EpochPlan:
    rows = [np.array(row, dtype=np.int32) for row in corpus]
    lengths = np.array([len(row) for row in rows], dtype=np.int32)
    targets = (lengths + 1) // 2
    defaults = {"seed": 1, "epoch": 0, "batch_size": 4, "max_tokens": 16}
    return plan_epoch(lengths, targets, tokens=rows.__getitem__, **{**defaults, **options})


@given(corpora, st.sampled_from(CUTS), st.integers(1, 9), st.integers(1, 40), st.integers(1, 3))
def test_an_epoch_holds_every_example_once_and_each_step_its_share(
    corpus: list[list[int]], packing: Packing, batch_size: int, max_tokens: int, world_size: int
) -> None:
    plan = plan_of(corpus, packing=packing, batch_size=batch_size, max_tokens=max_tokens, world_size=world_size)
    assert sorted(example for step in plan for example in step.examples) == list(range(len(corpus)))
    assert [len(step.examples) for step in plan][:-1] == [batch_size] * (len(plan) - 1)
    assert all(len(step.ranks) == world_size for step in plan)
    for step in plan:
        assert step.target_tokens == sum((len(corpus[example]) + 1) // 2 for example in step.examples)


@given(corpora, st.integers(1, 9), st.integers(1, 40), st.integers(1, 3))
def test_membership_does_not_depend_on_the_cut(
    corpus: list[list[int]], batch_size: int, max_tokens: int, world_size: int
) -> None:
    reference = plan_of(corpus, packing="padded", batch_size=batch_size)
    for packing in CUTS:
        plan = plan_of(corpus, packing=packing, batch_size=batch_size, max_tokens=max_tokens, world_size=world_size)
        assert [set(step.examples) for step in plan] == [set(step.examples) for step in reference]


@given(corpora, st.sampled_from(CUTS), st.integers(1, 40))
def test_a_pass_exceeds_the_budget_only_for_a_single_long_example(
    corpus: list[list[int]], packing: Packing, max_tokens: int
) -> None:
    plan = plan_of(corpus, packing=packing, max_tokens=max_tokens, batch_size=8)
    for micro in (micro for step in plan for rank in step.ranks for micro in rank):
        assert micro.tokens <= max_tokens or len(micro.examples) == 1


@given(corpora)
def test_computed_tokens_are_those_of_the_layout(corpus: list[list[int]]) -> None:
    useful = sum(map(len, corpus))
    everything = {"batch_size": len(corpus), "max_tokens": 10**6}
    prefixes = {tuple(row[:size]) for row in corpus for size in range(1, len(row) + 1)}
    expected = {"packed": useful, "padded": max(map(len, corpus)) * len(corpus), "tree": len(prefixes)}
    for packing, tokens in expected.items():
        assert plan_of(corpus, packing=packing, **everything).compute_ratio() == (pytest.approx(tokens / useful), True)


def test_a_large_epoch_is_marked_as_an_estimate() -> None:
    plan = plan_of([[index % 3] * (index % 7 + 1) for index in range(400)], packing="padded", max_tokens=30)
    share, exact = plan.compute_ratio()
    estimate, also_exact = plan.compute_ratio(examples=100)
    assert exact
    assert not also_exact
    assert estimate == pytest.approx(share, rel=0.2)


@given(corpora, st.integers(1, 9), st.sampled_from(CUTS))
def test_grouping_by_length_forms_steps_of_similar_rows(
    corpus: list[list[int]], batch_size: int, packing: Packing
) -> None:
    plan = plan_of(corpus, batch_size=batch_size, packing=packing, group_by_length=True)
    assert sorted(plan.order) == list(range(len(corpus)))
    assert [len(step.examples) for step in plan][:-1] == [batch_size] * (len(plan) - 1)
    assert list(plan.order) == list(
        plan_of(corpus, batch_size=batch_size, packing="padded", group_by_length=True).order
    )
    ranges = sorted((max(sizes), min(sizes)) for sizes in ([len(corpus[i]) for i in step.examples] for step in plan))
    assert all(low[0] <= high[1] for low, high in pairwise(ranges))  # one pool, so they do not overlap


def test_grouped_steps_come_in_random_order_and_change_with_the_epoch() -> None:
    lengths = np.arange(1, 401, dtype=np.int32)
    orders = [
        group_lengths(membership(400, seed=1, epoch=epoch), lengths, 4, seed=1, epoch=epoch) for epoch in (0, 0, 1)
    ]
    assert list(orders[0]) == list(orders[1])
    assert list(orders[0]) != list(orders[2])
    assert abs(np.corrcoef(np.arange(100), lengths[orders[0]].reshape(100, 4).mean(1))[0, 1]) < 0.5


def test_an_epoch_of_a_million_rows_is_planned_without_looking_at_them() -> None:
    lengths = np.full(10**6, 30, dtype=np.int32)
    lookups: list[int] = []

    def tokens(index: int) -> Any:
        lookups.append(index)
        return np.arange(index, index + 30, dtype=np.int32)

    plan = plan_epoch(lengths, lengths, seed=1, epoch=0, batch_size=16, max_tokens=99, packing="tree", tokens=tokens)
    assert (len(plan), plan.useful_tokens, lookups) == (62_500, 30_000_000, [])
    assert sorted(plan[62_499].examples) == sorted(plan.order[-16:])
    with pytest.raises(IndexError, match="step 62500"):
        plan[62_500]


@given(st.integers(0, 200), st.integers(0, 2**32), st.integers(0, 1000))
@settings(max_examples=50)
def test_membership_is_a_permutation_that_changes_with_seed_and_epoch(size: int, seed: int, epoch: int) -> None:
    order = membership(size, seed=seed, epoch=epoch)
    assert sorted(order) == list(range(size))
    assert list(order) == list(membership(size, seed=seed, epoch=epoch))
    if size > 20:
        assert list(order) != list(membership(size, seed=seed, epoch=epoch + 1))
        assert list(order) != list(membership(size, seed=seed + 1, epoch=epoch))


def test_the_order_is_the_same_on_every_machine_and_version() -> None:
    assert list(membership(10, seed=42, epoch=0)) == [7, 1, 6, 4, 3, 5, 9, 0, 2, 8]


def test_the_tree_cut_asks_for_tokens() -> None:
    with pytest.raises(ValueError, match="token ids"):
        pack_examples([0], np.array([1], dtype=np.int32), 8, "tree")
