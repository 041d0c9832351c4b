"""`kamerton train cv.folds=k` on the tiny model: every example is scored once, by a model that never saw it."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from torchmetrics.text import CharErrorRate

from kamerton.cli import main
from kamerton.score.metrics import compute
from support.runs import LEAN, record
from support.warm import Starter

Train = Callable[..., Path]
FOLDED = (*LEAN, "cv.folds=3")
SHORT = ["trainer.max_steps=2", "cv.stratify=label"]


@pytest.fixture
def train(animals: Path, tmp_path: Path) -> Train:
    """Runs the command; returns the directory of the cross-validation that it made last."""

    def run(*overrides: str, code: int = 0) -> Path:
        outputs = tmp_path / "outputs"
        assert main(["train", *FOLDED, f"data.path={animals}", f"paths.outputs={outputs}", *overrides]) == code
        made = sorted(outputs.glob("jsonl/*/run.json"), key=lambda path: path.stat().st_mtime_ns)
        return made[-1].parent if made else outputs

    return run


def out_of_fold(run: Path) -> list[dict[str, Any]]:
    return pq.read_table(run / "scores" / "out_of_fold.parquet").to_pylist()


def test_every_example_is_scored_once_by_a_fold_that_is_an_ordinary_run(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(*SHORT, "base=true", "baselines=true", "model.export=adapter")
    output = capsys.readouterr().out
    for part in ("3-fold cross-validation of 120 examples; held out in turn: 40, 40, 40", "fold 2", "TF-IDF, linear"):
        assert part in output
    table = pq.read_table(run / "scores" / "out_of_fold.parquet")
    assert len(set(table["prompt"].to_pylist())) == table.num_rows == 120
    tested = []
    for number in range(3):
        fold = run / "folds" / str(number)
        result = record(fold)
        assert (result["state"], result["parent"], result["fold"]) == ("succeeded", run.name, number)
        assert result["data"]["counts"]["test"] == 40
        assert f"{run.name} · fold {number}" in (fold / "report.md").read_text()
        assert yaml.safe_load((fold / "config.yaml").read_text())["split"]["fold"] == number
        rows = pq.read_table(fold / "scores" / "test.parquet")
        assert rows["label"].to_pylist().count("yes") == 20
        tested += rows["example_id"].to_pylist()
    assert sorted(tested) == table["example_id"].to_pylist()
    assert record(run)["state"] == "succeeded"
    pooled = {name: value for name, value in compute(table).items() if value is not None}
    assert record(run)["metrics"]["out_of_fold"] == pytest.approx(pooled)
    base = pq.read_table(run / "scores" / "base.parquet")
    assert base["example_id"].to_pylist() == table["example_id"].to_pylist()


@pytest.mark.slow
def test_mean_and_spread_are_those_of_the_folds(train: Train) -> None:
    run = train(*SHORT, "base=false", "metrics.cer._target_=torchmetrics.text.CharErrorRate")
    losses = [record(run / "folds" / str(number))["metrics"]["test"]["loss"] for number in range(3)]
    summary = json.loads((run / "cross_validation.json").read_text())
    spread = summary["spread"]["loss"]
    assert spread["values"] == losses
    assert spread["mean"] == pytest.approx(np.mean(losses)) == record(run)["metrics"]["mean"]["loss"]
    assert spread["deviation"] == pytest.approx(np.std(losses, ddof=1))
    assert spread["low"] < spread["mean"] < spread["high"]
    assert "Nadeau and Bengio" in summary["method"]
    assert [fold["examples"]["test"] for fold in summary["folds"]] == [40, 40, 40]
    rows = out_of_fold(run)
    whole = CharErrorRate()([row["prediction"] for row in rows], [row["target"] for row in rows])
    assert record(run)["metrics"]["out_of_fold"]["cer"] == pytest.approx(float(whole))  # not the first fold's


@pytest.mark.slow
def test_an_interrupted_evaluation_resumes_to_the_same_scores(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kamerton.train.module import FineTuneModule

    straight = train(*SHORT, "run_id=straight", "base=false")
    plain, calls = FineTuneModule.training_step, []

    def stopping(self: FineTuneModule, batch: Any, batch_idx: int) -> None:
        calls.append(batch_idx)
        if len(calls) == 3:  # the first step of the second fold
            os.kill(os.getpid(), signal.SIGINT)
        plain(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(FineTuneModule, "training_step", stopping)
        stopped = train(*SHORT, "base=false", code=130)
    again = shlex.split(capsys.readouterr().err.splitlines()[-1])
    assert again[-1] == f"run_id={stopped.name}"
    assert record(stopped)["state"] == record(stopped / "folds" / "1")["state"] == "paused"
    before = (stopped / "folds" / "0" / "run.json").read_bytes()
    assert train(*SHORT, "base=false") == stopped
    assert (stopped / "folds" / "0" / "run.json").read_bytes() == before
    assert out_of_fold(stopped) == out_of_fold(straight)
    assert main(again[1:]) == 2  # finished


@pytest.mark.slow
def test_a_fold_that_fails_is_named_and_the_others_are_trained(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "outputs" / "jsonl" / "x" / "folds" / "1"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("not a folder")
    run = train(*SHORT, "base=false", "run_id=x", code=1)
    output = capsys.readouterr()
    assert "fold 1 failed" in output.out
    assert "1 fold failed: fold 1" in output.err
    assert (record(run)["state"], record(run)["error"]["code"]) == ("failed", "cv.fold-failed")
    assert record(run / "folds" / "2")["state"] == "succeeded"
    assert not (run / "scores").exists()
    blocked.unlink()
    assert len(out_of_fold(train(*SHORT, "base=false", "run_id=x"))) == 120


def test_settings_that_contradict_folds_are_reported_before_training(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("split.folds=3", "split.time=number", "resume=force", code=2)
    output = capsys.readouterr().err
    for part in ("cv.folds and split.folds", "cv.folds and split.time", "resume=force would average"):
        assert part in output
    train("cv.group=nowhere", code=2)
    assert "nowhere" in capsys.readouterr().err
    train("cv.folds=1", code=2)
    assert "cv.folds is 1" in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


def test_changed_data_are_refused_on_resume(
    train: Train, animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "outputs" / "jsonl" / "x" / "folds").mkdir(parents=True)
    (tmp_path / "outputs" / "jsonl" / "x" / "folds" / "2").write_text("not a folder")
    train(*SHORT, "base=false", "run_id=x", code=1)
    animals.write_text(animals.read_text().replace("cat number 7", "lion number 7"))
    train(*SHORT, "base=false", "run_id=x", code=2)
    assert "was started with other data" in capsys.readouterr().err


@pytest.mark.slow
def test_folds_train_over_two_processes_as_over_one(train: Train, animals: Path, tmp_path: Path, warm: Starter) -> None:
    item = train(*SHORT, "cv.folds=2", "run_id=one")
    options = [*FOLDED, *SHORT, "cv.folds=2", "run_id=two", "trainer=ddp", "trainer.accelerator=cpu"]
    warm.finish("-m", "kamerton", "train", *options, f"data.path={animals}", f"paths.outputs={tmp_path}/outputs")
    both = [record(run)["metrics"]["out_of_fold"]["loss"] for run in (item, item.with_name("two"))]
    assert both[1] == pytest.approx(both[0], rel=1e-4)
