"""Derived defaults: a callback's direction, and the number of epochs."""

from __future__ import annotations

from typing import Any

import pytest

from kamerton.config.compose import compose_values
from kamerton.config.derived import fill_in
from kamerton.config.faults import check_overrides

CALLBACKS = ("early_stopping", "checkpoint_best")


@pytest.mark.parametrize("callback", CALLBACKS)
@pytest.mark.parametrize(
    ("metric", "mode"), [("val/loss", "min"), ("val/perplexity", "min"), ("val/token_accuracy", "max")]
)
def test_a_callback_uses_the_direction_of_its_metric(callback: str, metric: str, mode: str) -> None:
    monitor, other = f"callbacks.{callback}.monitor={metric}", {"min": "max", "max": "min"}[mode]
    assert compose_values([monitor])["callbacks"][callback]["mode"] == mode
    key = f"callbacks.{callback}.mode"
    assert check_overrides([monitor, f"{key}={mode}"]) == []
    (fault,) = check_overrides([monitor, f"{key}={other}"])
    assert (fault.column, f"set {key}={mode}" in fault.fix) == (key, True)


def test_callbacks_with_an_unknown_direction_must_set_mode() -> None:
    node = "+callbacks.mine={{_target_: pytorch_lightning.callbacks.ModelCheckpoint, monitor: {}, filename: mine}}"
    assert compose_values([node.format("val/token_accuracy")])["callbacks"]["mine"]["mode"] == "max"
    (fault,) = check_overrides([node.format("my/score")])
    assert fault.column == "callbacks.mine.mode"
    assert check_overrides([node.format("my/score"), "callbacks.mine.mode=max"]) == []


@pytest.mark.parametrize(
    ("typed", "epochs"),
    [
        ([], 1),
        (["trainer.max_steps=150"], -1),
        (["trainer.max_steps=150", "trainer.max_epochs=3"], 3),
        (["trainer.max_epochs=3"], 3),
        (["trainer.max_steps=-1"], 1),
        (["trainer.max_steps=null"], 1),
        (["trainer.max_epochs=null", "trainer.max_steps=150"], -1),
    ],
)
def test_max_steps_alone_sets_the_length(typed: list[str], epochs: int) -> None:
    assert compose_values(["data=jsonl", *typed])["trainer"]["max_epochs"] == epochs


def test_no_limit_at_all_is_a_fault() -> None:
    (fault,) = check_overrides(["data=jsonl", "data.path=conf", "trainer.max_epochs=-1"])
    assert fault.column == "trainer.max_epochs"


@pytest.mark.parametrize("values", [{}, {"callbacks": None}, {"callbacks": {"a": 3}, "trainer": 5}])
def test_other_values_are_unchanged(values: dict[str, Any]) -> None:
    assert fill_in(values) == values
