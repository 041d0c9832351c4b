"""Judged completions (KTO): which are desired, and the metrics of a step, also of one side alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kamerton.objective.judgements import JudgedRows, JudgementLoss
from kamerton.objective.pairs import PreferenceRows


def judged(scores: list[float], starts: list[int]) -> JudgedRows:
    """Completions of 2 tokens whose log-probability by the reference is -4, and -6 after another prompt."""
    size = len(scores)
    counts = np.full(size, 2, np.int32)
    rows = PreferenceRows(np.array(scores), np.full(size, -4.0), counts, np.array(starts), np.ones(len(starts)))
    return JudgedRows(rows, np.full(size, -6.0))


def test_the_best_of_a_prompt_are_desired_and_a_single_one_by_its_label() -> None:
    step = judged([1.0, 0.0, 3.0, 3.0, 1.0], [0, 1, 2]).judge([0, 1, 2], range(5))
    assert step.desired.tolist() == [True, False, True, True, False]
    assert step.weight.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 9, 1 / 9, 1 / 9])


def test_metrics_of_a_step_and_of_one_without_undesired_completions() -> None:
    rows, loss = judged([1.0, 0.0], [0, 1]), JudgementLoss(0.5)
    policy = torch.tensor([-2.0, -7.0]).double()
    metrics = loss.metrics(policy, torch.tensor(1.0).double(), rows.judge([0, 1], [0, 1]), lambda value: value)
    values = {name: float(value) for name, value in metrics.items()}
    assert values["preference_accuracy"] == 1
    assert (values["reward_desired"], values["reward_undesired"], values["margin"]) == (1, -1.5, 2.5)
    assert (values["length_desired"], values["length_undesired"]) == (2, 2)
    assert values["drift"] == pytest.approx((2 / 2 + 3 / 2) / 2)
    assert values["kl"] == 1
    alone = loss.metrics(policy[:1], torch.tensor(1.0).double(), rows.judge([0], [0]), lambda value: value)
    assert float(alone["reward_desired"]) == 1
    assert math.isnan(alone["reward_undesired"])
    assert math.isfinite(alone["loss"])


def test_the_divergence_is_that_of_other_completions_and_not_below_0() -> None:
    step = judged([1.0, 0.0], [0, 1]).judge([0, 1], [0, 1])
    loss = JudgementLoss(0.5)
    assert float(loss.divergence(torch.tensor([-3.0, -5.0]).double(), step, lambda value: value)) == 2
    assert float(loss.divergence(torch.tensor([-9.0, -9.0]).double(), step, lambda value: value)) == 0
