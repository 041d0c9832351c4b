"""A run that changes no weight is detected from two numbers per tensor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kamerton.cli import main
from kamerton.monitor.series import Series, Setting
from kamerton.monitor.weights import marks, nothing_learnt


@given(
    place=st.integers(0, 11), change=st.floats(-3, 3).filter(lambda change: abs(change) > 1e-6), seed=st.integers(0, 99)
)
def test_one_number_that_moves_is_seen_and_frozen_weights_do_not_count(place: int, change: float, seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Linear(3, 4)
    model.bias.requires_grad_(False)
    before = marks(model)
    with torch.no_grad():
        model.bias += 1.0
    assert marks(model) == before
    with torch.no_grad():
        model.weight.view(-1)[place] += change
    assert marks(model) != before


@pytest.mark.parametrize(
    ("rate", "gradient", "reason"),
    [(0.0, 1.0, "learning rate was 0"), (0.1, 0.0, "gradient was 0"), (0.1, 1.0, "number format")],
)
def test_the_advice_follows_from_the_reason(rate: float, gradient: float, reason: str) -> None:
    series = Series(Setting(2))
    for step in (1, 2):
        series.add(step, {"train/loss": 1.0, "train/grad_norm": gradient, "lr": rate})
    issue = nothing_learnt(series)
    assert reason in issue.message
    assert issue.advice


def test_updates_lost_in_rounding_are_reported_at_the_end(
    animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["model=tiny", "data=jsonl", f"data.path={animals}", f"paths.outputs={tmp_path}", "run_id=x"]
    options += ["logger=csv", "callbacks.progress_bar=null", "base=false", "baselines=false", "trainer.max_steps=2"]
    options += ["optimizer.lr=1e-300"]
    assert main(["train", *options]) == 0
    path = tmp_path / "jsonl" / "x"
    codes = [json.loads(line)["code"] for line in (path / "events.jsonl").read_text().splitlines()]
    assert codes.count("nothing-learnt") == 1
    printed = capsys.readouterr()
    assert "[nothing-learnt]" in printed.err
    assert "Nothing was learnt" in printed.out
    assert "Nothing was learnt" in (path / "report.md").read_text()
