"""Detectors of training on rewards, on synthetic metrics: runs of all sorts that learn have no report."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kamerton.monitor.detect import find_issues
from kamerton.monitor.issue import Issue
from kamerton.monitor.series import Setting

STEPS = 200
Row = dict[str, float]
Rows = list[tuple[int, Row]]


def stream(
    change: Callable[[int, Row], None] = lambda step, row: None,
    *,
    end: float = 0.7,
    longer: float = 1.3,
    entropy: float = 0.3,
    noise: float = 0.05,
    seed: int = 0,
) -> Rows:
    """A GRPO run that learns: the reward rises from 0.2 to `end`, lengths by `longer`, the entropy falls to `entropy`.

    The loss is about 0 and has both signs, as it is by construction; the references of the validation become less
    likely, and all answers begin alike.
    """
    draw = np.random.default_rng(seed)
    rows: Rows = []
    for step in range(1, STEPS + 1):
        share = 1 - math.exp(-step / 60)
        reward = min(1.0, max(0.0, 0.2 + (end - 0.2) * share + noise * draw.standard_normal()))
        row = {
            "train/loss": 1e-3 * draw.standard_normal(),
            "train/grad_norm": 0.3 * math.exp(0.3 * draw.standard_normal()),
            "train/targets": 4000.0,
            "train/reward": reward,
            "train/reward_spread": 0.3 * (1 - 0.5 * share),
            "train/no_signal": float(draw.binomial(8, 0.2 + 0.2 * share)) / 8,
            "train/length": 40 * (1 + (longer - 1) * share) * math.exp(0.1 * draw.standard_normal()),
            "train/truncated": float(draw.binomial(64, 0.05)) / 64,
            "train/entropy": entropy + (1.2 - entropy) * (1 - share),
            "train/kl": 0.2 * share,
            "lr": 1e-5 * (1 - step / (STEPS + 1)),
        }
        change(step, row)
        rows.append((step, row))
        if step % 20 == 0:
            entropies = {"val/answer_entropy": 0.0, "val/reference_entropy": 1.4}
            rows.append((step, {"val/loss": 1.5 + step / 50, "val/reward": row["train/reward"], **entropies}))
    return rows


def reports(rows: Rows, **setting: Any) -> list[Issue]:
    return find_issues(rows, Setting(STEPS, objective="grpo", **setting))


def codes(rows: Rows, **setting: Any) -> list[str]:
    return [issue.code for issue in reports(rows, **setting)]


@given(
    end=st.floats(0.25, 0.95),
    longer=st.floats(0.3, 3),
    entropy=st.floats(0.05, 1.2),
    noise=st.floats(0.01, 0.1),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=60, deadline=None)
def test_a_run_that_learns_from_rewards_has_no_warnings(**shape: Any) -> None:
    assert codes(stream(**shape), clip_norm=1.0, warmup=10) == []


def since(first: int, **values: float) -> Callable[[int, Row], None]:
    """These metrics take these values from step `first` on."""

    def change(step: int, row: Row) -> None:
        if step >= first:
            row |= {f"train/{name}": value for name, value in values.items()}

    return change


def longer(step: int, row: Row) -> None:
    """Completions become three times as long, and a reward is given for their length."""
    row["train/length"] *= 1 + 2 * step / STEPS
    row["train/reward"] = row["train/length"] / 120


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_a_reward_for_length_is_reported_where_no_other_reward_rises(right: float) -> None:
    def in_parts(step: int, row: Row) -> None:
        correct = row["train/reward"] if right else 0.2 + (row["train/reward"] - 0.2) * 0.01
        longer(step, row)
        row["train/reward_number"], row["train/reward_detail"] = correct, row["train/reward"]
        row["train/reward"] += correct

    issues = reports(stream(in_parts))
    assert [issue.code for issue in issues] == ([] if right else ["length-hacking"])
    for issue in issues:
        assert issue.message.startswith("reward_detail rises with the length")
        assert issue.message.endswith("and number hardly rises")


def test_a_single_reward_is_reported_where_it_follows_the_length() -> None:
    (issue,) = reports(stream(longer))
    assert issue.code == "length-hacking"
    assert issue.message.startswith("reward rises with the length of the completions")
    assert codes(stream(longer=4.0)) == []  # longer and better, but not step by step

    def shorter(step: int, row: Row) -> None:
        row["train/length"] *= 1 - 0.7 * step / STEPS
        row["train/reward"] = 1 - row["train/length"] / 120

    assert codes(stream(shorter)) == []


@pytest.mark.parametrize(
    ("reward", "begin", "expected"),
    [(0.0, 1, "too hard"), (1.0, 1, "too easy"), (1.0, 100, "too easy"), (0.5, 1, "too easy or too hard")],
)
def test_groups_without_signal_are_told_apart_by_their_reward(reward: float, begin: int, expected: str) -> None:
    def change(step: int, row: Row) -> None:
        if step >= begin:
            varied = 0.0 if reward in (0.0, 1.0) else 0.2 * math.sin(step)
            row |= {"train/reward": reward + varied, "train/no_signal": 0.9, "train/reward_spread": 0.01}

    (issue,) = reports(stream(change))
    assert (issue.code, issue.step) == ("no-signal", max(20, -(-(begin + 19) // 5) * 5))
    assert expected in issue.message
    assert issue.advice


@pytest.mark.parametrize(
    ("reward", "expected"), [(0.0, "too hard"), (0.5, "too easy, or the reward does not depend on the answer")]
)
@pytest.mark.parametrize("steps", [5, 7, 19])
def test_a_short_run_without_any_signal_is_reported_at_its_last_step(steps: int, reward: float, expected: str) -> None:
    rows = stream(since(1, reward=reward, no_signal=1.0, reward_spread=0.0))[:steps]
    (issue,) = find_issues(rows, Setting(steps, objective="grpo"))
    assert (issue.code, issue.step) == ("no-signal", steps)
    assert expected in issue.message
    rows[1][1]["train/no_signal"] = 0.9  # a group that differs
    assert find_issues(rows, Setting(steps, objective="grpo")) == []
    assert find_issues(rows[:4], Setting(4, objective="grpo")) == []  # too little to judge


def test_a_task_that_is_learnt_late_in_the_run_is_no_problem() -> None:
    assert codes(stream(since(130, reward=1.0, no_signal=1.0, reward_spread=0.0, entropy=0.001))) == []


def test_a_part_that_is_never_given_makes_equal_rewards_wrong_ones() -> None:
    parts = {"reward": 0.2, "no_signal": 1.0, "reward_number": 0.0, "reward_length": 1.0}
    (issue,) = reports(stream(since(1, **parts)))
    assert "too hard" in issue.message


@pytest.mark.parametrize(
    "values",
    [
        {"entropy": 0.005, "reward": 0.3},  # one answer for all prompts
        {"reward": 0.0, "no_signal": 1.0, "reward_spread": 0.0, "entropy": 3.0},  # what was learnt is lost
    ],
)
def test_a_policy_that_collapses_below_its_best_is_reported(values: dict[str, float]) -> None:
    (issue,) = reports(stream(since(100, **values)))
    assert issue.code == "policy-collapse"
    assert 100 < issue.step <= 125
    assert issue.evidence["highest"] > issue.evidence["reward"]
    assert codes(stream(since(100, **{**values, "reward": 0.95, "no_signal": 0.3}))) == []  # certain, and right


def test_what_is_lost_within_the_first_steps_is_a_collapse_and_no_hard_task() -> None:
    def lost(step: int, row: Row) -> None:
        row |= {"train/no_signal": 0.7, "train/kl": 3.0}
        if step > 8:
            row |= {"train/reward": 0.0, "train/no_signal": 1.0, "train/reward_spread": 0.0}

    issues = {issue.code: issue for issue in reports(stream(lost))}
    assert issues.keys() == {"policy-collapse", "kl-runaway"}
    assert issues["policy-collapse"].step == 30
    assert issues["kl-runaway"].evidence["kl"] == issues["kl-runaway"].evidence["kl_before"]


def test_a_divergence_that_grows_without_reward_has_run_away() -> None:
    def away(step: int, row: Row) -> None:
        row["train/kl"] = 0.2 * math.exp(step / 40)
        if step > 60:
            row["train/reward"] = 0.4 - step / 1000

    (issue,) = reports(stream(away))
    assert issue.code == "kl-runaway"
    assert issue.evidence["kl"] > 1

    def learns(step: int, row: Row) -> None:  # short answers move by several nats per token as they become right
        row["train/kl"] = 5 * (1 - math.exp(-step / 60))

    assert codes(stream(learns)) == []


def test_the_loss_and_the_references_are_not_what_is_learnt() -> None:
    def jumps(step: int, row: Row) -> None:
        row["train/loss"] = 5.0 if step % 50 == 0 else 0.4 + step / 100

    assert codes(stream(jumps)) == []
