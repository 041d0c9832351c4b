"""Losses of preferences: their limits, symmetries and gradients, and what they add up to."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kamerton.objective import preference
from kamerton.objective.pair_loss import PairLoss, drift
from kamerton.objective.pairs import Comparison

ratios = st.floats(-80, 80)
betas = st.floats(0.01, 3)


def value(number: float) -> Tensor:
    return torch.tensor([number], dtype=torch.float64)


def gradients(loss: Callable[[Tensor, Tensor], Tensor], chosen: float, rejected: float) -> tuple[float, float]:
    """Derivatives by the log-probability of the chosen and of the rejected completion."""
    sides = value(chosen).requires_grad_(), value(rejected).requires_grad_()
    first, second = torch.autograd.grad(loss(*sides).sum(), sides)
    return float(first), float(second)


def test_without_a_margin_nothing_is_known() -> None:
    equal = value(-3.0), value(-3.0)
    assert float(preference.dpo(*equal, beta=0.1)) == pytest.approx(math.log(2))
    assert float(preference.dpo(*equal, beta=0.1, label_smoothing=0.3)) == pytest.approx(math.log(2))
    assert float(preference.ipo(*equal, beta=0.1)) == pytest.approx(25)
    assert float(preference.simpo(*equal, beta=2.0, margin=0.0)) == pytest.approx(math.log(2))
    assert float(preference.orpo(*equal)) == pytest.approx(math.log(2))
    zero = value(0.0)
    assert float(preference.apo_zero(zero, zero, beta=0.1)) == 1
    assert float(preference.apo_down(zero, zero, beta=0.1)) == 1
    weights = {"beta": 0.1, "desired_weight": 1.0, "undesired_weight": 3.0}
    judged = preference.kto(torch.zeros(2), torch.tensor([True, False]), torch.tensor(0.0), **weights)
    assert judged.tolist() == [0.5, 1.5]


@given(ratios, ratios, betas, st.floats(0, 0.49))
def test_smoothing_is_the_loss_of_preferences_that_are_wrong_so_often(
    chosen: float, rejected: float, beta: float, share: float
) -> None:
    right, wrong = value(chosen), value(rejected)
    expected = (1 - share) * preference.dpo(right, wrong, beta=beta) + share * preference.dpo(wrong, right, beta=beta)
    assert float(preference.dpo(right, wrong, beta=beta, label_smoothing=share)) == pytest.approx(float(expected))


@given(ratios, ratios, betas)
def test_the_margin_alone_counts_and_both_sides_move_apart(chosen: float, rejected: float, beta: float) -> None:
    for loss in (
        lambda c, r: preference.dpo(c, r, beta=beta),
        lambda c, r: preference.simpo(c, r, beta=beta, margin=0.5),
    ):
        first, second = gradients(loss, chosen, rejected)
        assert first == pytest.approx(-second)
        assert -beta <= first <= 0
        shifted = loss(value(chosen + 7), value(rejected + 7))
        assert float(shifted) == pytest.approx(float(loss(value(chosen), value(rejected))), abs=1e-9)
    zero_margin = preference.simpo(value(chosen), value(rejected), beta=beta, margin=0.0)
    assert float(zero_margin) == float(preference.dpo(value(chosen), value(rejected), beta=beta))


@given(st.floats(-1, 1), st.floats(-1, 1), betas)
def test_ipo_has_its_minimum_at_its_target(chosen: float, rejected: float, beta: float) -> None:
    first, _ = gradients(lambda c, r: preference.ipo(c, r, beta=beta), chosen, rejected)
    assert first == pytest.approx(2 * (chosen - rejected - 1 / (2 * beta)))


@given(ratios, ratios, betas)
def test_anchored_losses_move_each_side_as_they_say(chosen: float, rejected: float, beta: float) -> None:
    """`apo_zero` raises the chosen completion and lowers the rejected one; `apo_down` lowers the rejected one."""
    first, second = gradients(lambda c, r: preference.apo_zero(c, r, beta=beta), chosen, rejected)
    assert first <= 0 <= second
    first, second = gradients(lambda c, r: preference.apo_down(c, r, beta=beta), chosen, chosen)
    assert first == pytest.approx(beta / 4 * (4 * _slope(beta * chosen) - 1), abs=1e-12)
    assert second > 0


def _slope(x: float) -> float:
    """The derivative of the sigmoid."""
    return 0.25 / math.cosh(x / 2) ** 2


@given(st.floats(-20, -1e-6), st.floats(-20, -1e-6))
def test_odds_are_those_of_the_probabilities(chosen: float, rejected: float) -> None:
    odds = [math.exp(x) / -math.expm1(x) for x in (chosen, rejected)]
    expected = math.log1p(odds[1] / odds[0])
    assert float(preference.orpo(value(chosen), value(rejected))) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_a_completion_that_is_certain_has_a_finite_loss_and_gradient() -> None:
    """A log-probability of exactly 0 is what float32 gives a completion that is learnt by heart."""
    for chosen, rejected in ((0.0, -2.0), (-2.0, 0.0), (0.0, 0.0)):
        loss = preference.orpo(value(chosen), value(rejected))
        assert torch.isfinite(loss).all()
        assert all(map(math.isfinite, gradients(preference.orpo, chosen, rejected)))


@given(ratios, st.floats(0, 30), betas)
def test_kto_values_what_is_better_than_the_divergence(ratio: float, divergence: float, beta: float) -> None:
    weights = {"beta": beta, "desired_weight": 2.0, "undesired_weight": 0.5}
    both = torch.tensor([ratio, ratio], dtype=torch.float64, requires_grad=True)
    loss = preference.kto(both, torch.tensor([True, False]), value(divergence)[0], **weights)
    share = 1 / (1 + math.exp(-beta * (ratio - divergence)))
    assert loss.tolist() == pytest.approx([2 * (1 - share), 0.5 * share])
    (slope,) = torch.autograd.grad(loss.sum(), both)
    assert slope[0] <= 0 <= slope[1]


def test_a_tie_is_half_right() -> None:
    margins = torch.tensor([2.0, -2.0, 0.0, 1e-6, -1e-6])
    assert preference.is_preferred(margins, 1e-5).tolist() == [1, 0, 0.5, 0.5, 0.5]


def comparison() -> Comparison:
    """Two pairs, of which the first weighs three times as much."""
    return Comparison(
        reference=torch.tensor([-4.0, -6.0, -2.0, -9.0]).double(),
        tokens=torch.tensor([2, 4, 1, 3]),
        chosen=torch.tensor([0, 2]),
        rejected=torch.tensor([1, 3]),
        weight=torch.tensor([0.75, 0.25]).double(),
        best=torch.tensor([True, False, True, False]),
    )


def test_metrics_are_means_by_weight_with_lengths_and_drift() -> None:
    pairs, policy = comparison(), torch.tensor([-3.0, -8.0, -3.0, -6.0]).double()
    metrics = {name: float(value) for name, value in PairLoss("dpo", 0.5).metrics(policy, pairs).items()}
    assert metrics["preference_accuracy"] == 0.75  # margins of 3 and -4 nats
    assert metrics["margin"] == pytest.approx(0.75 * 0.5 * 3 - 0.25 * 0.5 * 4)
    assert metrics["logprob_chosen"] == -3
    assert metrics["length_chosen"] == 0.75 * 2 + 0.25 * 1
    assert metrics["length_rejected"] == 0.75 * 4 + 0.25 * 3
    assert metrics["drift"] == pytest.approx(0.75 * (1 / 2 + 2 / 4) / 2 + 0.25 * (1 / 1 + 3 / 3) / 2)
    assert "drift" not in PairLoss("simpo", 2.0).metrics(policy, pairs)
    assert float(PairLoss("dpo", 0.5).metrics(pairs.reference, pairs)["drift"]) == 0


def test_drift_does_not_cancel() -> None:
    assert drift(torch.tensor([6.0, -6.0]), torch.tensor([3.0, 2.0])).tolist() == [2, 3]
