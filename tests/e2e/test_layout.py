"""The batch layout that `kamerton train` reports, and which options may change a result."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from kamerton.cli import main
from support.runs import LEAN


def run(animals: Path, name: str, *overrides: str) -> tuple[dict[str, Any], list[dict[str, Any]], list[float]]:
    """`run.json`, the events and the loss of every step."""
    outputs = animals.parent / "outputs"
    options = [f"data.path={animals}", f"paths.outputs={outputs}", f"run_id={name}", "trainer.max_steps=4"]
    assert main(["train", *LEAN, *options, *overrides]) == 0
    folder = outputs / "jsonl" / name
    events = folder / "events.jsonl"
    lines = events.read_text().splitlines() if events.exists() else []
    with (folder / "metrics.csv").open(newline="") as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]
    return json.loads((folder / "run.json").read_text()), [json.loads(line) for line in lines], losses


def test_the_micro_batch_limit_is_measured_printed_and_recorded(
    animals: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, events, losses = run(animals, "auto")
    assert record["batch"]["cut"] == "tree"
    assert record["batch"]["max_tokens"] % 256 == 0
    assert f"micro-batch limit: {record['batch']['max_tokens']:,} tokens" in " ".join(capsys.readouterr().out.split())
    assert "cut-fallback" not in [event["code"] for event in events]
    limited, _, same = run(animals, "given", "batch.max_tokens=70")
    assert limited["batch"]["max_tokens"] == 70
    assert same == pytest.approx(losses, rel=1e-4)


def test_with_dropout_no_prefix_is_shared_and_the_run_says_so(
    animals: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, events, _ = run(animals, "dropout", "adapter.dropout=0.1")
    assert record["batch"]["cut"] == "packed"
    (output,) = [event for event in events if event["code"] == "cut-fallback"]
    assert "batch.cut=tree becomes packed" in output["message"]
    assert "batch.cut=tree becomes packed" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_grouping_by_length_is_a_choice_that_changes_the_steps(animals: Path) -> None:
    _, _, plain = run(animals, "plain")
    _, _, grouped = run(animals, "grouped", "batch.group_by_length=true")
    _, _, padded = run(animals, "padded", "batch.group_by_length=true", "batch.cut=padded")
    assert grouped != pytest.approx(plain, rel=1e-3)
    assert padded == pytest.approx(grouped, rel=1e-4)
