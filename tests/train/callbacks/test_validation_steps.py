"""Validations at shares of an epoch: the same share of the data at every batch size."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamerton.cli import main
from kamerton.train.callbacks.validation_steps import validation_steps


@given(st.sampled_from([0.1, 0.2, 0.25, 0.5]), st.integers(10, 500), st.integers(1, 4))
def test_as_many_in_every_epoch_and_each_as_soon_as_its_share_is_trained(share: float, steps: int, epochs: int) -> None:
    validated = sorted(validation_steps(share, steps, steps * epochs))
    assert len(validated) == round(epochs / share)
    for number, step in enumerate(validated, 1):
        assert step - 1 < number * share * steps + 1e-6 <= step + 2e-6


def test_a_run_shorter_than_the_share_is_validated_at_its_end() -> None:
    assert validation_steps(0.5, 100, 20) == {20}


def test_more_validations_than_steps_are_one_after_each() -> None:
    assert validation_steps(0.25, 2, 4) == {1, 2, 3, 4}


@pytest.mark.parametrize("size", [8, 12])
def test_a_run_validates_after_each_quarter(animals: Path, tmp_path: Path, size: int) -> None:
    typed = ["model=tiny", "data=jsonl", f"data.path={animals}", "logger=csv", "callbacks=null", "base=false"]
    typed += ["baselines=false", f"batch.size={size}", "eval.every=0.25", "trainer.max_epochs=2", "run_id=one"]
    assert main(["train", *typed, f"paths.outputs={tmp_path}/o"]) == 0
    run = tmp_path / "o" / "jsonl" / "one"
    with (run / "metrics.csv").open(newline="") as file:
        validated = [int(row["step"]) for row in csv.DictReader(file) if row["val/loss"]]
    steps = json.loads((run / "run.json").read_text())["progress"]["steps"]
    assert validated == [-(-number * steps // 8) for number in range(1, 9)]
