"""`eval.score`: what validations log, that it equals an evaluation of the same rows, and that training is unchanged."""

from __future__ import annotations

import json
import os
import signal
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kamerton.cli import main
from kamerton.config.check import to_config
from kamerton.config.compose import compose_values
from kamerton.data.inputs import load_inputs
from kamerton.errors import Interrupted
from kamerton.pipeline import validation
from kamerton.pipeline.validation import scored_examples
from kamerton.train.callbacks.scoring import ScoreValidation
from support.rows import write_jsonl
from support.runs import LEAN, Train, metric_rows, record, saved, trainer, weights
from support.warm import Starter

STEPS = ("trainer.max_steps=4", "eval.strategy=steps", "eval.every=2", "optimizer.lr=0.01", "adapter.dropout=0.2")
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


def validation_rows(data: Path, file: Path, most: int | None = None) -> Path:
    """Write the rows that validations of `data` score to a file."""
    values = ["model=tiny", "data=jsonl", f"data.path={data}", "data.near_duplicates=null"]
    if most is not None:
        values += ["eval.score=auto", f"eval.sample={most}"]
    config = to_config(compose_values(values))
    scored = scored_examples(config, load_inputs(config.data, config.split, config.model))
    return write_jsonl(file, [{"prompt": row.prompt, "completion": row.completion} for row in scored.examples])


def evaluated(run: Path, outputs: Path, checkpoint: str, *options: str) -> dict[str, float]:
    """The metrics of `kamerton evaluate` for a checkpoint of the run."""
    words = [f"checkpoint={run}/checkpoints/{checkpoint}.ckpt", f"paths.outputs={outputs}", "name=again", *options]
    assert main(["evaluate", *words]) == 0
    return dict(json.loads((outputs / "evaluations" / "again" / "evaluation.json").read_text())["metrics"]["test"])


@pytest.mark.parametrize("sample", [None, 9])
@pytest.mark.parametrize("average", ["ema_decay=null", "ema_decay=0.5"])
def test_label_metrics_of_a_validation_equal_those_of_an_evaluation(
    train: Train, animals: Path, outputs: Path, tmp_path: Path, sample: int | None, average: str
) -> None:
    options = ["data.near_duplicates=null", average, "eval.score=labels"]
    run = train(*options, *([] if sample is None else [f"eval.sample={sample}"]))
    again = evaluated(
        run, outputs, "last", "data=jsonl", f"data.test={validation_rows(animals, tmp_path / 'v.jsonl', sample)}"
    )
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
    options = ["data.near_duplicates=null", "eval.score=generate", "score.max_new_tokens=5", "score.temperature=1.0"]
    run = trainer(free_text, outputs, *LEAN, *STEPS)(*options, *CUSTOM)
    file = validation_rows(free_text, tmp_path / "v.jsonl")
    again = evaluated(
        run,
        outputs,
        "last",
        "data=jsonl",
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
def test_two_processes_log_what_one_logs(train: Train, animals: Path, outputs: Path, warm: Starter) -> None:
    """Real DDP over gloo: rank 0 scores, and both ranks keep the checkpoint of the best accuracy."""
    options = ["eval.score=labels", "eval.sample=9", "callbacks.checkpoint_best.monitor=val/accuracy"]
    options.append("adapter.dropout=0")  # which depends on the rank
    alone = train("run_id=alone", *options)
    words = ["train", *LEAN, *STEPS, *options, f"data.path={animals}", f"paths.outputs={outputs}", "run_id=two"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    warm.finish("-m", "kamerton", *words, "trainer=ddp", "trainer.accelerator=cpu", env=environment)
    two = alone.with_name("two")
    assert record(two)["best"]["step"] == record(alone)["best"]["step"]
    for ours, theirs in zip(validations(alone), validations(two), strict=True):
        assert {name: theirs[name] for name in ours} == pytest.approx(ours, rel=1e-4)


class Strategy:
    """A strategy of two processes whose broadcasts are in `messages`, in order."""

    def __init__(self, messages: list[Any]) -> None:
        self.messages, self.receives = messages, bool(messages)

    def broadcast(self, value: Any) -> Any:
        if self.receives:
            return self.messages.pop(0)
        self.messages.append(value)
        return value


@pytest.mark.parametrize("fails", [False, True])
def test_the_other_ranks_wait_for_rank_0_and_end_if_it_fails(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    def score(model: Any, progress: Any) -> dict[str, float]:
        progress(3)
        progress(1)
        if fails:
            raise RuntimeError("a metric failed")
        return {"f1": 0.1}

    logged: list[tuple[str, float]] = []
    module: Any = SimpleNamespace(model=None, device="cpu", log=lambda name, value: logged.append((name, value.item())))
    strategy = Strategy([])
    here: Any = SimpleNamespace(sanity_checking=False, world_size=2, strategy=strategy, is_global_zero=True)
    callback = ScoreValidation(score, lambda _: pytest.fail("ranks agree on a stop elsewhere"))
    with pytest.raises(RuntimeError) if fails else nullcontext():
        callback.on_validation_epoch_end(here, module)
    there: Any = SimpleNamespace(sanity_checking=False, strategy=Strategy(strategy.messages), is_global_zero=False)
    with pytest.raises(Interrupted) if fails else nullcontext():
        callback.on_validation_epoch_end(there, module)
    assert not there.strategy.messages  # nothing is left that a rank would wait for
    assert logged == ([] if fails else [("val/f1", 0.1)] * 2)
