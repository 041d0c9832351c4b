"""Strategies that training on rewards does not take."""

from __future__ import annotations

import re

import pytest

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
