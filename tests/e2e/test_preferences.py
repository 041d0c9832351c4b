"""`kamerton train objective=…` on the tiny model: preferences from what is typed to what is there afterwards."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kamerton.cli import main
from kamerton.model import switches
from kamerton.pipeline import finish, preferences
from support.pairs import judged_rows, pair_rows
from support.resuming import same_result, signal_in
from support.rows import write_jsonl
from support.runs import LEAN, TINY, Train, metric_rows, record, trainer
from support.warm import Starter


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "pairs.jsonl", pair_rows())


@pytest.fixture
def train(pairs: Path, outputs: Path) -> Train:
    return trainer(pairs, outputs, "objective=dpo", *LEAN)


def stops(train: Train, patch: pytest.MonkeyPatch, where: list[tuple[str, int]], *options: str) -> None:
    """Fail if a run that is stopped at these places, (method, step), differs from one that is not."""
    options = ("trainer.max_steps=8", "trainer.max_epochs=-1", "eval.strategy=steps", "eval.every=4", *options)
    straight = train(*options, "run_id=straight")
    for method, step in where:
        with patch.context() as each:
            signal_in(each, method, step, signal.SIGTERM)
            stopped = train(*options, "run_id=stopped", code=130)
        assert record(stopped)["state"] == "paused"
    train(*options, "run_id=stopped")
    assert same_result(stopped, straight)


def test_pairs_interrupted_and_resumed_give_the_same_bits(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout and split pairs; stopped in a validation, and at the end of an epoch."""
    places = [("validation_step", 4), ("training_step", 5)]
    stops(train, monkeypatch, places, "adapter.dropout=0.1", "batch.max_tokens=48")


def test_judgements_interrupted_and_resumed_give_the_same_bits(
    tmp_path: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = write_jsonl(tmp_path / "judged.jsonl", judged_rows())
    train = trainer(judged, outputs, "objective=kto", *LEAN)
    stops(train, monkeypatch, [("training_step", 3)])


def test_metrics_are_logged_at_steps_and_validations(train: Train) -> None:
    run = train("trainer.max_steps=3", "optimizer.lr=0.01", "callbacks.early_stopping.monitor=val/preference_accuracy")
    rows = metric_rows(run)
    names = "preference_accuracy margin reward_chosen reward_rejected logprob_chosen logprob_rejected length_chosen"
    for name in (*names.split(), "length_rejected", "drift", "loss", "token_accuracy"):
        assert any(row.get(f"train/{name}") for row in rows), name
        assert any(row.get(f"val/{name}") for row in rows), name
    first = {name: float(rows[0][f"train/{name}"]) for name in ("loss", "drift", "preference_accuracy")}
    assert first == pytest.approx({"loss": math.log(2), "drift": 0, "preference_accuracy": 0.5}, abs=1e-4)
    assert float(rows[2]["train/drift"]) > 0
    validation = record(run)["metrics"]["validation"]
    assert validation["preference_accuracy"] == pytest.approx(float(rows[-1]["val/preference_accuracy"]))
    assert record(run)["metrics"]["test"].keys() >= {"preference_accuracy", "margin"}


def test_another_objective_is_refused_for_a_run_that_is_resumed(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        signal_in(patch, "training_step", 1, signal.SIGINT)
        train("run_id=x", "trainer.max_steps=2", code=130)
    train("run_id=x", "trainer.max_steps=2", "objective=ipo", code=2)
    assert "run x was started with objective=dpo, now it is ipo" in capsys.readouterr().err
    train("run_id=x", "trainer.max_steps=2", "objective.beta=0.2", code=2)
    assert "objective.beta=0.1, now it is 0.2" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("rows", ["pairs", "rankings"])
def test_folds_cover_every_preference_once(train: Train, pairs: Path, rows: str) -> None:
    if rows == "rankings":
        write_jsonl(pairs, [ranking(row, number) for number, row in enumerate(pair_rows(24))])
    run = train("cv.folds=2", "trainer.max_steps=2")
    run = run if (run / "folds").exists() else run.parents[1]
    result = record(run)
    assert result["state"] == "succeeded"
    assert "Preference accuracy and Margin of rewards" in (run / "report.html").read_text()
    assert re.search(r"^\W*Preference accuracy [\d.]+ ± ", (run / "report.md").read_text(), re.MULTILINE)
    assert {"preference_accuracy", "margin"} <= result["metrics"]["mean"].keys()


def ranking(row: dict[str, str], number: int) -> dict[str, object]:
    """Three completions, the worst first."""
    other = f"it sings {number}"
    return {"prompt": row["prompt"], "completions": [other, row["rejected"], row["chosen"]], "scores": [0, 1, 2]}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["launcher=null", "launcher=warm"])
def test_a_sweep_is_decided_by_the_accuracy_of_preferences(
    pairs: Path, outputs: Path, launcher: str, warm: Starter
) -> None:
    words = ["train", "sweep=preference", *LEAN, f"data.path={pairs}", f"paths.outputs={outputs}", launcher]
    words += ["hydra.sweeper.n_trials=2", "hydra.sweeper.study_name=s", "trainer.max_steps=4"]
    warm.finish("-m", "kamerton", *words)
    study = outputs / "jsonl" / "s"
    with (study / "trials.csv").open(newline="") as file:
        trials = list(csv.DictReader(file))
    assert len(trials) == 2
    accuracies = [record(path)["metrics"]["best"]["preference_accuracy"] for path in (study / "trials").iterdir()]
    best = json.loads((study / "sweep.json").read_text())["best"][0]
    assert best["values"] == [max(accuracies)]
    assert {"optimizer.lr", "objective.beta"} == best["params"].keys()


@pytest.mark.slow
@pytest.mark.parametrize(("objective", "strategy"), [("dpo", "ddp"), ("dpo", "fsdp"), ("kto", "ddp"), ("kto", "fsdp")])
def test_two_processes_give_what_one_gives(
    tmp_path: Path, outputs: Path, objective: str, strategy: str, warm: Starter
) -> None:
    """With passes so small that pairs are split, and ranks have unequal numbers of them."""
    rows = judged_rows() if objective == "kto" else pair_rows()
    data = write_jsonl(tmp_path / "rows.jsonl", rows)
    words = ["train", f"objective={objective}", *TINY, "base=false", "adapter=full", "trainer.accelerator=cpu"]
    words += ["trainer.max_steps=4", "scheduler.warmup_steps=10", "batch.max_tokens=50", "model.export=null"]
    words += [f"data.path={data}", f"paths.outputs={outputs}", "eval.strategy=steps", "eval.every=2"]
    assert main([*words, "run_id=one"]) == 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    warm.finish("-m", "kamerton", *words, f"trainer={strategy}", "run_id=two", env=environment)
    one, two = outputs / "jsonl" / "one", outputs / "jsonl" / "two"
    for row, expected in zip(metric_rows(two), metric_rows(one), strict=True):
        for name, value in expected.items():
            if value and name.startswith(("train/", "val/")) and "entropy" not in name:
                assert float(row[name]) == pytest.approx(float(value), rel=1e-4, abs=2e-5, nan_ok=True), name


def test_the_reference_is_computed_once_and_as_training_computes(
    tmp_path: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the default precision of a GPU, under which the first step must not begin away from the reference."""
    calls: list[str] = []
    places = [(preferences, "weights_fingerprint"), (finish, "_score"), (finish, "score_mismatched")]
    for module, name in [*places, (preferences, "reference_logprobs")]:
        monkeypatch.setattr(module, name, counted(getattr(module, name), calls))
    monkeypatch.setattr(switches, "best_precision", lambda: "bf16-mixed")
    judged = write_jsonl(tmp_path / "judged.jsonl", judged_rows())
    train = trainer(judged, outputs, "objective=kto", *LEAN)
    run = train("base=true", "trainer.accelerator=auto", "trainer.max_steps=1", "eval.every=1", "optimizer.lr=1e-12")
    references = ["reference_logprobs bf16-mixed"] * 4  # of training and validation: own completions, others
    assert sorted(calls) == ["_score", *references, "score_mismatched", "weights_fingerprint"]
    assert float(metric_rows(run)[0]["train/drift"]) < 1e-3
    metrics = record(run)["metrics"]
    assert metrics["base"]["preference_accuracy"] == metrics["test"]["preference_accuracy"] == 0.5


def counted(plain: Callable[..., Any], calls: list[str]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        calls.append(" ".join([plain.__name__, *([options["precision"]] if "precision" in options else [])]))
        return plain(*arguments, **options)

    return call
