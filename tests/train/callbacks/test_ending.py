"""Why a training ended: named in the run's record, its events, its report, in lists of runs and on the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping, Timer

from kamerton.cli import main
from kamerton.jobs.store import read_status
from kamerton.monitor.series import Setting
from kamerton.run.checkpoints import read_checkpoint
from kamerton.run.directory import RunDirectory
from kamerton.train.callbacks.ending import end_reason
from kamerton.train.callbacks.monitor import Monitor
from kamerton.train.callbacks.pruning import Pruning
from kamerton.words import early_ending


def test_early_stopping_and_the_best_weights_by_another_metric_than_the_loss(
    animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint's name contains a folder, and the monitored metric is higher-is-better without a mode."""
    options = ["model=tiny", "data=jsonl", f"data.path={animals}", f"paths.outputs={tmp_path}", "run_id=x", "seed=1"]
    options += ["logger=csv", "callbacks.progress_bar=null", "base=false", "baselines=false", "optimizer.lr=0.03"]
    options += ["trainer.max_epochs=40", "eval.strategy=steps", "eval.every=2", "callbacks.early_stopping.patience=2"]
    options += [f"callbacks.{name}.monitor=val/token_accuracy" for name in ("early_stopping", "checkpoint_best")]
    assert main(["train", *options, "callbacks.checkpoint_best.filename='{step}-{val/token_accuracy:.3f}'"]) == 0
    path = tmp_path / "jsonl" / "x"
    record = json.loads((path / "run.json").read_text())
    ended, best = record["ended"], record["best"]
    assert ended["reason"] == "early_stopping"
    assert ended["step"] == record["progress"]["step"] < ended["of"] == record["progress"]["steps"]
    sentence = early_ending(ended)
    assert sentence is not None
    assert "val/token_accuracy did not improve in 2 validations" in sentence
    (event,) = [item for item in events(path) if item["code"] == "ended-early"]
    assert event["message"].lower() == sentence.lower()
    assert sentence.lower() in " ".join(capsys.readouterr().out.split()).lower()
    for name in ("report.md", "report.html"):
        assert f"ended early at step {ended['step']} of {ended['of']}" in (path / name).read_text()
    assert read_status(path).ended == ended
    assert main(["runs", "--outputs", str(tmp_path)]) == 0
    assert sentence in " ".join(capsys.readouterr().out.split())

    curve = {row["step"]: row["val/token_accuracy"] for row in rows(path) if row.get("val/token_accuracy")}
    highest = max(map(float, curve.values()))
    assert (best["monitor"], best["mode"], best["value"]) == ("val/token_accuracy", "max", highest)
    assert record["metrics"]["best"]["token_accuracy"] == highest
    assert (
        record["metrics"]["best"]["step"]
        == best["step"]
        == next(int(s) for s, v in curve.items() if float(v) == highest)
    )
    kept = path / best["checkpoint"]
    assert kept.parent.parent == path / "checkpoints"
    assert read_checkpoint(kept)["global_step"] == best["step"] < ended["step"]


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]


def rows(path: Path) -> list[dict[str, str]]:
    import csv

    with (path / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def fitted(*callbacks: Any, **metrics: float) -> Any:
    values = {name.replace("_", "/", 1): torch.tensor(value) for name, value in metrics.items()}
    return SimpleNamespace(callbacks=list(callbacks), callback_metrics=values, should_stop=True)


def stopping(values: list[float], **options: Any) -> EarlyStopping:
    callback = EarlyStopping("val/loss", **options)
    for value in values:
        callback._evaluate_stopping_criteria(torch.tensor(value))
    return callback


@pytest.mark.parametrize(
    ("callback", "loss", "text"),
    [
        (stopping([2.0, 3.0], patience=1), 3.0, "val/loss did not improve in 1 validation (3; the best was 2)"),
        (stopping([float("nan")]), float("nan"), "val/loss is nan"),
        (stopping([0.1], stopping_threshold=0.2), 0.1, "val/loss is 0.1 and reached stopping_threshold=0.2"),
        (stopping([9.0], divergence_threshold=8.0), 9.0, "val/loss is 9 and passed divergence_threshold=8.0"),
    ],
)
def test_every_reason_of_early_stopping_is_named_with_its_values(callback: Any, loss: float, text: str) -> None:
    reason, detail, values = end_reason(fitted(Timer("00:00:00:09"), callback, val_loss=loss))
    assert (reason, detail) == ("early_stopping", f"early stopping: {text}")
    assert values["val/loss"] == pytest.approx(loss, nan_ok=True)


def test_time_pruning_the_monitor_and_whatever_else_are_told_apart(tmp_path: Path) -> None:
    monitor = Monitor(RunDirectory(tmp_path, resuming=False), Setting(10))
    pruning = Pruning(None, "val/loss")
    idle = [stopping([2.0, 1.0]), monitor, pruning]
    assert end_reason(fitted(*idle, val_loss=1.0))[0] == "callback"
    timer = Timer("00:00:01:00")
    timer._offset = 61
    assert end_reason(fitted(*idle, timer, val_loss=1.0))[:2] == ("max_time", "the time limit of 0:01:00 was reached")
    pruning.load_state_dict({"count": 2, "pruned": True, "values": {"val/loss": 1.5}})
    assert end_reason(fitted(*idle, val_loss=1.0)) == (
        "pruned",
        "pruned at validation 2 (val/loss 1.5): unlikely to become the best trial",
        {"val/loss": 1.5},
    )
    monitor.stopped_by = {"code": "divergence", "step": 7, "message": "the loss rose"}
    assert end_reason(fitted(*idle, val_loss=1.0))[:2] == ("monitor", "monitor.stop_on has divergence: the loss rose")


@pytest.mark.parametrize("ended", [None, {}, 5, {"step": 3}, {"step": 4, "of": 4, "detail": "trainer.max_steps=4"}])
def test_what_ended_as_planned_or_is_unknown_is_no_early_end(ended: Any) -> None:
    assert early_ending(ended) is None
