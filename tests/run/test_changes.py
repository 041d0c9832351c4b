"""What may differ when a run is resumed, and how differences are reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kamerton.config.compose import compose_values
from kamerton.run.changes import changed_faults

RUN = Path("outputs/sums/one")


def reward(*names: str, **options: Any) -> dict[str, Any]:
    functions = {name: {"_target_": f"kamerton.objective.rewards.{name}", "weight": 1.0} for name in names}
    return {"reward": functions, **options}


def test_another_objective_is_one_fault_with_what_it_changes() -> None:
    before, after = (compose_values([f"objective={name}"]) for name in ("apo", "ipo"))
    before["objective"]["name"] = "apo_down"
    (fault,) = changed_faults(RUN, before, after)
    assert fault.message == "run one was started with objective=apo_down, now it is ipo"
    assert fault.fix.startswith("give objective=apo objective.name=apo_down to resume it")
    grpo = compose_values(["objective=grpo", "reward=number", "seed=7"])
    first, second, third = changed_faults(RUN, grpo, before)
    assert first.fix.startswith("give objective=grpo to resume it")
    assert "which also changes " in first.message
    for key in ("callbacks.checkpoint_best.monitor", "data.rows", "eval.score", "score.mode", "objective.samples"):
        assert key in first.message
    assert (second.column, third.column) == ("reward", "seed")
    older = {key: value for key, value in compose_values([]).items() if key != "objective"}
    (fault,) = (each for each in changed_faults(RUN, older, after) if each.column == "objective.name")
    assert "was started with objective=sft, now it is ipo" in fault.message


@pytest.mark.parametrize(
    ("began", "now", "given"),
    [
        (["reward=exact_match"], ["reward=number"], "reward=exact_match"),
        (["reward=[number,length]"], ["reward=number"], "'reward=[number,length]'"),
        (["reward=default"], ["reward=number"], "reward=default"),
        (["reward._target_=mine.short", "reward.limit=3"], ["reward=number"], "reward._target_=mine.short"),
        (["reward=number"], ["reward=number", "+reward.own._target_=mine.short"], "reward=number"),
        (["reward=number", "+reward.own._target_=mine.short"], ["reward=number"], "reward=number reward.own._target_="),
    ],
)
def test_other_rewards_are_one_fault_with_those_to_give(began: list[str], now: list[str], given: str) -> None:
    common = ["objective=grpo", "allow_targets=[mine.]"]
    before, after = (compose_values([*common, *rewards]) for rewards in (began, now))
    (fault,) = changed_faults(RUN, before, after)
    assert fault.column == "reward"
    assert fault.fix.startswith(f"give {given}")
    assert not changed_faults(RUN, before, before)


def test_another_option_of_a_reward_is_named_by_its_key() -> None:
    options = ["objective=grpo", "reward=[number,length]"]
    before, after = (compose_values([*options, f"reward.length.most={most}"]) for most in (10, 30))
    (fault,) = changed_faults(RUN, before, after)
    assert fault.fix.startswith("give reward.length.most=10 to resume it")


def test_other_changes_are_reported_beside_another_reward() -> None:
    faults = changed_faults(RUN, reward("exact_match", seed=1), reward("number", seed=2))
    assert [fault.column for fault in faults] == ["reward", "seed"]
