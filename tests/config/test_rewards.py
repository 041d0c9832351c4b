"""The section `reward`: keys that would be ignored, and strategies that training on rewards does not take."""

from __future__ import annotations

import re

import pytest

from kamerton.config.check import check_config
from kamerton.config.compose import compose_values
from kamerton.config.rewards import check_rewards


@pytest.mark.parametrize("objective", ["grpo", "rloo"])
def test_deepspeed_is_refused_and_the_others_are_not(objective: str) -> None:
    options = [f"objective={objective}", "reward=exact_match", "objective.kl_weight=0.1", "adapter=full"]
    (fault,) = check_rewards(compose_values([*options, "trainer=deepspeed"]))
    assert fault.message == f"objective={objective} is not supported with DeepSpeed"
    assert fault.column == "trainer.strategy"
    choices = re.findall(r"trainer=\w+", fault.fix)
    assert choices == ["trainer=fsdp", "trainer=ddp"]
    assert [list(check_rewards(compose_values([*options, choice]))) for choice in choices] == [[], []]


@pytest.mark.parametrize("mode", ["labels", "reference"])
def test_a_test_split_without_answers_is_refused(mode: str) -> None:
    (fault,) = check_rewards(compose_values(["objective=grpo", "reward=exact_match", f"score.mode={mode}"]))
    assert fault.column == "score.mode"
    assert "sets score.mode=generate" in fault.fix


def test_turns_of_the_data_are_not_chosen_for_prompts() -> None:
    options = ["objective=grpo", "reward=exact_match", "data.path=prompts.jsonl"]
    (fault,) = check_config(compose_values([*options, "data.train_on=calls"]))
    assert fault.column == "data.train_on"
    assert not check_config(compose_values([*options, "data.train_on=all"]))


@pytest.mark.parametrize(
    ("options", "column", "fix"),
    [
        (["reward=length", "reward.length.most=3", "+reward.least=1"], "reward.least", "reward.length.least=1"),
        (["reward=exact_match", "+reward.number=5"], "reward.number", "reward.exact_match.number=5"),
        (
            ["reward=exact_match", "+reward._target_=my_rewards.exact_match"],
            "reward._target_",
            "reward.my_exact_match._target_=my_rewards.exact_match",
        ),
    ],
)
def test_keys_that_would_be_ignored_are_faults(options: list[str], column: str, fix: str) -> None:
    (fault,) = check_rewards(compose_values(options))
    assert fault.column == column
    assert fix in fault.fix
    assert not list(
        check_rewards(compose_values(["reward=exact_match", "+reward.own._target_=my_rewards.exact_match"]))
    )
