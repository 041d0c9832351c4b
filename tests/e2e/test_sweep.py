"""Sweeps as a user types them: the table at the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kamerton.cli import main
from support.warm import Starter

SMALL = ["model=tiny", "data=jsonl", "batch.size=8", "callbacks.progress_bar=null", "trainer.max_steps=2", "base=false"]


@pytest.mark.slow
def test_a_sweep_ends_with_a_table_of_its_points(
    animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = [*SMALL, f"data.path={animals}", f"paths.outputs={tmp_path}/o", "logger=null", "callbacks=null"]
    assert main(["train", "-m", *typed, "seed=1,2"]) == 0
    records = [json.loads(path.read_text()) for path in tmp_path.glob("o/jsonl/*/run.json")]
    assert sorted(record["seed"] for record in records) == [1, 2]
    shown = capsys.readouterr().out
    table = shown[shown.index("2 runs, test split") :]
    for record in records:
        assert f"{record['metrics']['test']['loss']:.4f}" in table
    assert (tmp_path / "o" / "jsonl" / records[0]["run_id"] / "metrics.csv").exists()  # whatever the loggers are


@pytest.mark.slow
def test_points_in_processes_of_their_own_end_in_the_same_table(animals: Path, tmp_path: Path, warm: Starter) -> None:
    typed = [*SMALL, f"data.path={animals}", f"paths.outputs={tmp_path}/o", "logger=null", "eval.strategy=steps"]
    points = ["-m", "launcher=process", "eval.every=1", "optimizer.lr=0.01,1e30"]
    output = warm.finish("-m", "kamerton", "train", *typed, *points, code=1)
    records = {path.parent: json.loads(path.read_text()) for path in tmp_path.glob("o/jsonl/*/run.json")}
    assert sorted(record["state"] for record in records.values()) == ["failed", "succeeded"]
    assert len({record["pid"] for record in records.values()}) == 2
    (good,) = (path for path, record in records.items() if record["state"] == "succeeded")
    table = output[output.index("2 runs, test split") :]
    assert f"{records[good]['metrics']['test']['loss']:.4f}" in table
    assert "at step 1: the training diverged" in " ".join(table.replace("│", " ").split())
    assert "lower optimizer.lr" in output  # the output of the process
