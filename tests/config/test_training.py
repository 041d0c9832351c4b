"""Options that contradict each other are faults that say what to do, before anything runs."""

from __future__ import annotations

import pytest

from kamerton.config.compose import check_overrides, compose_values
from kamerton.config.training import check_training


@pytest.mark.parametrize(
    ("overrides", "key", "said"),
    [
        (["scheduler.warmup_steps=5", "scheduler.warmup_ratio=0.1"], "scheduler.warmup_ratio", "both given"),
        (["scheduler=linear", "+scheduler.min_ratio=0.1"], "scheduler.min_ratio", "does nothing with scheduler=linear"),
        (["scheduler=wsd", "scheduler.warmup_ratio=0.6", "scheduler.decay_ratio=0.5"], "scheduler.decay_ratio", "0.6"),
        (["model.attn=eager"], "model.attn", "does nothing with batch.cut=tree"),
    ],
)
def test_what_cannot_be_meant_is_said(overrides: list[str], key: str, said: str) -> None:
    (fault,) = check_training(compose_values(overrides))
    assert fault.column == key
    assert said in fault.message
    assert fault.fix


@pytest.mark.parametrize("option", ["linear", "cosine", "constant", "wsd"])
def test_every_schedule_of_conf_is_accepted(option: str) -> None:
    assert check_overrides([f"scheduler={option}"]) == []


@pytest.mark.parametrize(
    "override",
    ["scheduler.warmup_ratio=1", "scheduler.warmup_steps=-1", "+scheduler.min_ratio=2", "+scheduler.decay_ratio=0",
     "label_smoothing=1", "label_smoothing=-0.1", "adapter.lr_ratio=0", "adapter.init=pizza"],
)  # fmt: skip
def test_values_out_of_bounds_are_named(override: str) -> None:
    faults = check_overrides([override])
    assert faults
    assert {fault.column for fault in faults} == {override.lstrip("+").partition("=")[0]}
