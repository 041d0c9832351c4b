"""Detectors of preferences on synthetic metrics: runs of all sorts that learn have no report."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kamerton.monitor.detect import find_issues
from kamerton.monitor.issue import Issue
from kamerton.monitor.series import Setting

STEPS = 200
Rows = list[tuple[int, dict[str, float]]]


def stream(
    *,
    margin: float = 2.0,
    accuracy: float = 0.85,
    fall: float = 0.2,
    tokens: float = 20.0,
    noise: float = 0.1,
    seed: int = 0,
    **values: float,
) -> Rows:
    """A DPO run that learns: the margin rises to `margin`, the chosen reward falls to `-fall` of it.

    `values` replace metrics in the second half of the run.
    """
    draw = np.random.default_rng(seed)
    rows: Rows = []
    for step in range(1, STEPS + 1):
        level = margin * (1 - math.exp(-step / 40))
        reached = level + noise * draw.standard_normal() * level
        met = 0.5 + (accuracy - 0.5) * (1 - math.exp(-step / 20))
        row = {
            "train/loss": math.log1p(math.exp(-reached)) * math.exp(0.1 * draw.standard_normal()),
            "train/token_accuracy": 0.4,
            "train/grad_norm": 2 * math.exp(0.3 * draw.standard_normal()),
            "train/targets": 160.0,
            "train/preference_accuracy": float(draw.binomial(8, met)) / 8,
            "train/margin": reached,
            "train/reward_chosen": -fall * reached,
            "train/reward_rejected": -(1 + fall) * reached,
            "train/drift": (1 + 2 * fall) * level / 0.2 / tokens,
            "lr": 1e-4 * (1 - step / (STEPS + 1)),
        }
        if step > STEPS // 2:
            row |= {f"train/{name}": value for name, value in values.items()}
        rows.append((step, row))
        if step % 25 == 0:
            entropies = {"val/answer_entropy": 0.0, "val/reference_entropy": 1.4}  # of a model that was not tuned
            rows.append((step, {"val/loss": math.log1p(math.exp(-level)) + 0.02, **entropies}))
    return rows


def reports(rows: Rows, objective: str = "dpo", **setting: Any) -> list[Issue]:
    return find_issues(rows, Setting(STEPS, objective=objective, **setting))


def codes(*arguments: Any, **setting: Any) -> list[str]:
    return [issue.code for issue in reports(*arguments, **setting)]


@given(
    margin=st.floats(0.2, 4),
    accuracy=st.floats(0.68, 0.97),
    fall=st.floats(-0.5, 0.3),
    tokens=st.floats(15, 300),
    noise=st.floats(0.05, 0.15),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=60, deadline=None)
def test_a_run_that_learns_preferences_has_no_warnings(**shape: Any) -> None:
    assert codes(stream(**shape), clip_norm=1.0, warmup=10) == []


def test_a_falling_reward_counts_by_its_share_of_the_margin_and_its_objective() -> None:
    assert codes(stream(fall=0.9)) == ["chosen-falling"]
    assert codes(stream(fall=0.9), "apo_down") == []
    assert codes(stream(fall=0.9, tokens=2000)) == []  # hardly a change of any token


@pytest.mark.parametrize(
    ("fallen", "expected"), [(0.1, []), (0.4, ["chosen-falling"]), (2.0, ["chosen-falling", "kl-runaway"])]
)
def test_a_fall_by_token_counts_for_any_margin_and_beta(fallen: float, expected: list[str]) -> None:
    rows = stream(fall=0.1, drift=2.0)
    for step, row in rows:
        if "train/loss" in row:
            row |= {"train/length_chosen": 20.0, "train/logprob_chosen": -20 * (1.5 + fallen * (step > STEPS // 2))}
    issues = reports(rows)
    assert [issue.code for issue in issues] == expected
    assert all("nats per token" in issue.message for issue in issues)


def test_judged_completions_are_named_as_they_are() -> None:
    names = {"reward_chosen": "reward_desired", "reward_rejected": "reward_undesired"}
    rows = [
        (step, {f"{key[:6]}{names.get(key[6:], key[6:])}": value for key, value in row.items()})
        for step, row in stream(fall=0.9)
    ]
    for step, row in rows:
        if step % 7 == 0 and "train/reward_desired" in row:
            row["train/reward_desired"] = row["train/margin"] = math.nan  # no desired completion in this step
    (issue,) = reports(rows, "kto")
    assert issue.code == "chosen-falling"
    assert "the desired completions become less likely" in issue.message
    assert issue.evidence["reward_desired"] < 0


def test_short_answers_and_targets_per_token_may_move_far() -> None:
    far = {"drift": 3.0, "reward_rejected": -40.0}
    assert "kl-runaway" in codes(stream(**far))
    assert codes(stream(**{**far, "reward_rejected": -8.0})) == []  # 3 nats for each of a few tokens
    assert codes(stream(**{**far, "drift": 0.3})) == []
    assert codes(stream(**far), "ipo") == []


def test_preferences_met_late_or_with_a_loss_left_are_not_saturated() -> None:
    met = {"preference_accuracy": 1.0, "margin": 9.0, "loss": 1e-3}
    assert codes(stream(**met)) == ["margin-saturated"]
    assert codes(stream(**{**met, "loss": 0.1})) == []
    assert codes([(step + STEPS // 4, row) for step, row in stream(**met)]) == []


@pytest.mark.parametrize(("accuracy", "expected"), [(0.5, ["no-preference"]), (0.3, ["no-preference"]), (0.65, [])])
def test_an_accuracy_at_chance_is_reported_in_the_second_half(accuracy: float, expected: list[str]) -> None:
    rows = stream(accuracy=accuracy, margin=0.1)
    assert codes(rows) == expected
    assert all(issue.step >= STEPS / 2 for issue in reports(rows))


@pytest.mark.parametrize(("met", "expected"), [(0.75, []), (0.25, ["loss-spike"])])
def test_a_few_preferences_in_the_wrong_order_are_not_a_spike(met: float, expected: list[str]) -> None:
    rows = stream(margin=4.0)
    for step, row in rows:
        if step == 150 and "train/loss" in row:
            row |= {"train/loss": 1.5, "train/preference_accuracy": met}
    assert codes(rows) == expected


def test_large_gradients_are_in_the_nature_of_ipo() -> None:
    rows = [(step, row | {"train/grad_norm": 50.0} if "train/loss" in row else row) for step, row in stream()]
    assert codes(rows, "ipo", clip_norm=1.0) == []
    assert codes(rows, "dpo", clip_norm=1.0) == ["always-clipped"]
