"""`eval.score`: what validations log, that it equals an evaluation of the same rows, and that training is unchanged."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from kamerton.config.validation import LOSS_METRICS
from kamerton.pipeline import validation
from support.rows import write_jsonl
from support.runs import LEAN, Train, evaluated, metric_rows, record, saved, trainer, validation_rows, weights
from support.warm import Starter

STEPS = ("trainer.max_steps=4", "eval.strategy=steps", "eval.every=2", "optimizer.lr=0.01", "adapter.dropout=0.2")
NO_NEAR = "data.near_duplicates=null"
METRICS = """
def first_letter(table):
    return [float((row["prediction"] or "x")[0] == row["target"][0]) for row in table.to_pylist()]

def rows(table):
    return float(table.num_rows)

rows.higher_is_better = False

def never(table):
    return float("nan")
"""
CUSTOM = (
    *(f"metrics.{name}._target_=own_metrics.{name}" for name in ("first_letter", "rows", "never")),
    "allow_targets=[own_metrics.]",
)


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def train(animals: Path, outputs: Path) -> Train:
    return trainer(animals, outputs, *LEAN, *STEPS)


@pytest.fixture
def free_text(tmp_path: Path) -> Path:
    """Rows without labels."""
    rows = [{"prompt": f"say {number}", "completion": f"it is {number * 7}"} for number in range(60)]
    return write_jsonl(tmp_path / "free.jsonl", rows)


def validations(run: Path) -> list[dict[str, float]]:
    """The metrics of each validation, from `metrics.csv`."""
    rows = [row for row in metric_rows(run) if row.get("val/loss")]
    return [{key[4:]: float(value) for key, value in row.items() if key.startswith("val/") and value} for row in rows]


@pytest.mark.parametrize("sample", [None, 9])
@pytest.mark.parametrize("average", ["ema_decay=null", "ema_decay=0.5"])
def test_label_metrics_of_a_validation_equal_those_of_an_evaluation(
    train: Train, animals: Path, outputs: Path, tmp_path: Path, sample: int | None, average: str
) -> None:
    options = [NO_NEAR, average, "eval.score=labels"]
    run = train(*options, *([] if sample is None else [f"eval.sample={sample}"]))
    sampled = [] if sample is None else ["eval.score=auto", f"eval.sample={sample}"]
    rows = validation_rows(animals, tmp_path / "v.jsonl", NO_NEAR, *sampled)
    again = evaluated(run, outputs, "last", f"data.test={rows}")
    logged = record(run)["metrics"]["validation"]
    names = {"accuracy", "f1", "precision", "recall", "f1_micro", "f1_weighted", "ece"}
    assert names < logged.keys()
    assert {name: logged[name] for name in names} == {name: again[name] for name in names}
    assert {name: validations(run)[-1][name] for name in names} == {name: again[name] for name in names}
    if sample is None:
        assert logged["loss"] == pytest.approx(again["loss"], rel=1e-6)


def test_metrics_of_generated_answers_and_custom_ones_equal_those_of_an_evaluation(
    free_text: Path, outputs: Path, tmp_path: Path, module: Any
) -> None:
    module("own_metrics", METRICS)
    options = [NO_NEAR, "eval.score=generate", "score.max_new_tokens=5", "score.temperature=1.0"]
    run = trainer(free_text, outputs, *LEAN, *STEPS)(*options, *CUSTOM)
    file = validation_rows(free_text, tmp_path / "v.jsonl", NO_NEAR)
    again = evaluated(
        run,
        outputs,
        "last",
        f"data.test={file}",
        "score.mode=generate",
        "score.max_new_tokens=5",
        *CUSTOM,
    )
    logged = record(run)["metrics"]["validation"]
    assert logged["rows"] == len(file.read_text().splitlines())
    assert "never" not in logged  # undefined
    names = again.keys() - {"loss", "perplexity", "token_accuracy", "never"}
    assert {"exact_match", "chrf", "bleu", "rougeL", "first_letter", "rows"} <= names
    assert {name: logged[name] for name in names} == {name: again[name] for name in names}
    assert not (run / "scores" / ".validation.partial").exists()


@pytest.mark.slow
@pytest.mark.parametrize("option", ["labels", "generate"])
def test_scoring_validations_changes_no_bit_of_the_training(train: Train, option: str) -> None:
    plain = train("run_id=plain")
    scored = train("run_id=scored", f"eval.score={option}", "score.max_new_tokens=4", "score.temperature=1.0")
    assert "accuracy" in validations(scored)[0]
    columns = [key for key in metric_rows(plain)[0] if not key.startswith("perf/")]
    assert "val/loss" in columns
    assert [[row[key] for key in columns] for row in metric_rows(scored)] == [
        [row[key] for key in columns] for row in metric_rows(plain)
    ]
    for name, weight in weights(plain).items():
        assert torch.equal(weight, weights(scored)[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("option", ["labels", "generate"])
def test_a_run_stopped_while_it_scores_resumes_to_the_same_result(
    train: Train, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [f"eval.score={option}", "eval.sample=7", "score.max_new_tokens=3", "batch.max_tokens=64"]
    options += ["callbacks.checkpoint_best.monitor=val/accuracy", "ema_decay=0.5"]
    straight = train("run_id=straight", *options)
    plain = validation.score_split

    def signalling(*arguments: Any, **named: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return plain(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(validation, "score_split", signalling)
        stopped = train("run_id=stopped", *options, code=130)
    assert record(stopped)["state"] == "paused"
    assert saved(stopped)["global_step"] == 2
    assert not validations(stopped)
    train("run_id=stopped", *options)
    assert validations(stopped) == validations(straight)
    for name, weight in weights(straight).items():
        assert torch.equal(weight, weights(stopped)[name]), name
    for part in ("validation", "best", "test"):
        assert record(stopped)["metrics"][part] == record(straight)["metrics"][part]


def test_best_checkpoint_and_early_stopping_follow_a_scored_metric(train: Train) -> None:
    run = train(
        "eval.score=labels",
        "eval.every=1",
        "trainer.max_steps=8",
        *(f"callbacks.{name}.monitor=val/accuracy" for name in ("checkpoint_best", "early_stopping")),
        "callbacks.early_stopping.patience=2",
        "optimizer.lr=1e-9",
    )
    accuracies = [values["accuracy"] for values in validations(run)]
    assert len(set(accuracies)) == 1  # nothing is learnt
    ended = record(run)["ended"]
    assert (ended["reason"], ended["step"]) == ("early_stopping", 3)
    best = record(run)["best"]
    assert (best["monitor"], best["mode"], best["value"], best["step"]) == ("val/accuracy", "max", accuracies[0], 1)
    assert record(run)["metrics"]["best"]["accuracy"] == accuracies[0]


@pytest.mark.parametrize(
    ("data", "options", "fault"),
    [
        ("free_text", ["eval.score=labels"], "set eval.score=generate"),
        ("animals", ["eval.score=labels", "split.ratios=[0.8,0,0.2]"], "no validation split to score"),
        (
            "animals",
            ["eval.score=generate", "callbacks.early_stopping.monitor=val/exact_match"],
            "callbacks.early_stopping.monitor is 'val/exact_match', which no validation logs",
        ),
        (
            "free_text",
            ["eval.score=auto", "callbacks.early_stopping.monitor=val/f1"],
            "callbacks.early_stopping.monitor is 'val/f1', which no validation logs",
        ),
        ("free_text", ["reward=exact_match"], "add score.mode=generate"),
    ],
)
def test_what_the_data_cannot_give_is_reported_before_a_model_loads(
    data: str,
    options: list[str],
    fault: str,
    outputs: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kamerton.pipeline.prepare.load_base", lambda _: pytest.fail("a model was loaded"))
    trainer(request.getfixturevalue(data), outputs, *LEAN)(*options, code=2)
    assert fault in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "options", "line"),
    [
        ("animals", ["eval.score=auto"], "validation examples by labels, 1 pass each; 2 validations"),
        ("animals", ["eval.score=labels", "eval.sample=5", "eval.every=4"], "5 of 22 validation examples by labels"),
        ("animals", ["eval.score=generate", "eval.sample=5", "score.max_new_tokens=2"], "2 passes each; 2 val"),
        ("free_text", ["eval.score=auto"], "nothing beside the loss"),
    ],
)
def test_the_plan_states_the_cost_of_scoring(
    data: str,
    options: list[str],
    line: str,
    outputs: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = trainer(request.getfixturevalue(data), outputs, *LEAN, *STEPS)(*options)
    assert line in capsys.readouterr().out
    assert ("accuracy" in validations(run)[-1]) == (data == "animals")


@pytest.mark.slow
def test_two_processes_divide_the_rows_and_log_what_an_evaluation_gives(
    train: Train, animals: Path, outputs: Path, tmp_path: Path, warm: Starter
) -> None:
    """Real DDP over gloo, with many small batches; both ranks keep the checkpoint of the best accuracy."""
    options = [NO_NEAR, "eval.score=labels", "batch.max_tokens=64"]
    options += ["callbacks.checkpoint_best.monitor=val/accuracy", "adapter.dropout=0"]  # dropout depends on the rank
    alone = train("run_id=alone", *options)
    words = ["train", *LEAN, *STEPS, *options, f"data.path={animals}", f"paths.outputs={outputs}", "run_id=two"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    warm.finish("-m", "kamerton", *words, "trainer=ddp", "trainer.accelerator=cpu", env=environment)
    two = alone.with_name("two")
    assert record(two)["best"]["step"] == record(alone)["best"]["step"]
    for ours, theirs in zip(validations(alone), validations(two), strict=True):
        assert {name: theirs[name] for name in ours} == pytest.approx(ours, rel=1e-4)
    rows = validation_rows(animals, tmp_path / "v.jsonl", NO_NEAR)
    again = evaluated(two, outputs, "last", f"data.test={rows}", "batch.max_tokens=64")
    logged = validations(two)[-1]
    names = logged.keys() & again.keys() - {*LOSS_METRICS}
    assert names >= {"accuracy", "f1", "ece"}
    assert {name: logged[name] for name in names} == {name: again[name] for name in names}
