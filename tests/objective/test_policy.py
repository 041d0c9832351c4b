"""Advantages and the losses of tokens, next to the formulas of the papers."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kamerton.objective.policy import PolicyLoss, advantages, divergence, without_signal

GROUPS = st.integers(2, 6).flatmap(
    lambda size: st.lists(
        st.lists(st.floats(-5, 5).map(lambda value: round(value, 1)), min_size=size, max_size=size),
        min_size=1,
        max_size=4,
    )
)


@given(GROUPS)
def test_grpo_standardises_the_rewards_of_each_group(rewards: list[list[float]]) -> None:
    found = advantages(torch.tensor(rewards, dtype=torch.float64), baseline="mean", standardise=True).tolist()
    for group, values in zip(rewards, found, strict=True):
        if len(set(group)) == 1:
            assert values == [0.0] * len(group)
        else:
            mean, deviation = statistics.fmean(group), statistics.stdev(group)
            assert values == pytest.approx([(reward - mean) / deviation for reward in group])


@given(GROUPS)
def test_rloo_subtracts_the_mean_of_the_others(rewards: list[list[float]]) -> None:
    found = advantages(torch.tensor(rewards, dtype=torch.float64), baseline="leave_one_out", standardise=False)
    for group, values in zip(rewards, found.tolist(), strict=True):
        others = [statistics.fmean(group[:i] + group[i + 1 :]) for i in range(len(group))]
        assert values == pytest.approx([reward - mean for reward, mean in zip(group, others, strict=True)], abs=1e-12)


def test_groups_of_equal_rewards_have_no_signal() -> None:
    rewards = torch.tensor([[0.1, 0.1, 0.1], [0.1, 0.1, 0.2]], dtype=torch.float64)
    assert without_signal(rewards).tolist() == [True, False]


@pytest.mark.parametrize("advantage", [-2.0, 0.5])
@pytest.mark.parametrize("ratio", [0.5, 0.85, 1.0, 1.15, 1.25, 2.0])
def test_ratios_are_clipped_where_the_loss_would_go_on_falling(ratio: float, advantage: float) -> None:
    loss = PolicyLoss(clip=0.2, clip_high=0.28)
    policy = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    old, weight = torch.zeros(1, dtype=torch.float64), torch.tensor([advantage], dtype=torch.float64)
    value = loss(policy, old, weight, None)
    assert float(value.detach()) == pytest.approx(-min(ratio * advantage, min(max(ratio, 0.8), 1.28) * advantage))
    (gradient,) = torch.autograd.grad(value.sum(), policy)
    assert (
        bool(gradient == 0)
        == bool(loss.clipped(policy, old, weight))
        == ((ratio > 1.28 and advantage > 0) or (ratio < 0.8 and advantage < 0))
    )


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=5), st.lists(st.floats(0.01, 1), min_size=5, max_size=5))
def test_the_mean_of_the_estimate_is_the_divergence(policy: list[float], reference: list[float]) -> None:
    p = torch.tensor(policy, dtype=torch.float64)
    q = torch.tensor(reference[: len(policy)], dtype=torch.float64)
    p, q = p / p.sum(), q / q.sum()
    estimates = divergence(p.log(), q.log())
    assert (estimates >= 0).all()
    assert float((p * estimates).sum()) == pytest.approx(float((p * (p / q).log()).sum()), abs=1e-12)
