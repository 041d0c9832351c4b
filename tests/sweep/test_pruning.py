"""The pruning callback in real runs of the tiny model, against a study in memory."""

from __future__ import annotations

import csv
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import pytorch_lightning as pl
from optuna.pruners import BasePruner, NopPruner, ThresholdPruner

from kamerton.config.schema import Config
from kamerton.errors import Cancelled, Interrupted, UserError
from kamerton.pipeline.run import train
from kamerton.pipeline.session import Invocation, RunResult
from kamerton.run.checkpoints import read_checkpoint
from kamerton.sweep.trial import run_trial, train_trial_run
from kamerton.sweep.trial_runs import TrialRun
from kamerton.train.callbacks.pruning import Pruning
from support.runs import record

NEVER, AFTER_TWO = NopPruner(), ThresholdPruner(upper=0.0, n_warmup_steps=3)


@dataclass(frozen=True)
class Trials:
    """The folder of a study's trials, with the pruning of one of them."""

    home: Path
    pruning: Pruning

    def train(self, config: Config) -> RunResult:
        return train_trial_run(TrialRun(self.home, config), Invocation(), pruning=self.pruning)

    def score(self, config: Config) -> RunResult:
        return train(config, home=self.home, reopens=True)


@pytest.fixture
def part(tmp_path: Path):
    """A run of a study with this pruner, and its trial."""

    def made(pruner: BasePruner, trial: optuna.Trial | None = None) -> tuple[Trials, optuna.Trial]:
        trial = trial or optuna.create_study(pruner=pruner).ask()
        return Trials(tmp_path / "trials", Pruning(trial, "val/loss")), trial

    return made


def reports(trial: optuna.Trial) -> dict[int, float]:
    return trial.study.trials[trial.number].intermediate_values


def test_a_scored_metric_is_reported_and_compared(configure: Any, tmp_path: Path) -> None:
    """The value of a trial is that of its best checkpoint; a bound of such a metric is the smallest allowed one."""
    study = optuna.create_study(direction="maximize", pruner=NEVER)
    options = ["sweep.objective=f1", "sweep.constraints={accuracy: 0.9}", "eval.score=labels", "eval.sample=9"]
    trial = study.ask()
    (value,) = run_trial(configure(*options, "callbacks.checkpoint_best.monitor=val/f1"), trial, tmp_path)
    with (tmp_path / "trials" / "0" / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/loss"]]
    assert reports(trial) == {number: float(row["val/f1"]) for number, row in enumerate(rows, 1)}
    assert value == max(float(row["val/f1"]) for row in rows)
    best = record(tmp_path / "trials" / "0")["metrics"]["best"]
    assert trial.constraints == {"accuracy": 0.9 - best["accuracy"]}


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_custom_metric_is_an_objective_with_its_direction(
    configure: Any, tmp_path: Path, module: Any, direction: str
) -> None:
    module("sizes", "def rows(table):\n    return float(table.num_rows)\n\nrows.higher_is_better = False\n")
    options = ["sweep.objective=rows", "eval.score=auto", "eval.sample=9", "eval.every=1"]
    config = configure(*options, "metrics.rows._target_=sizes.rows", "allow_targets=[sizes.]")
    trial = optuna.create_study(direction=direction, pruner=NEVER).ask()
    if direction == "minimize":
        assert run_trial(config, trial, tmp_path) == [9.0]
        return
    with pytest.raises(UserError, match="direction=minimize"):
        run_trial(config, trial, tmp_path)
    assert not (tmp_path / "trials").exists()


def test_a_trial_with_another_grader_than_the_trials_before_is_refused(configure: Any, tmp_path: Path) -> None:
    file, study = tmp_path / "grader.json", optuna.create_study(pruner=NEVER)
    grader = {"type": "string_check", "name": "a", "operation": "eq", "input": "a", "reference": "a"}
    config = configure(
        "reward=grader", f"reward.grader.file={file}", "score.mode=generate", "trainer.max_steps=1", "eval.every=1"
    )
    file.write_text(json.dumps(grader))
    run_trial(config, study.ask(), tmp_path)
    file.write_text(json.dumps({**grader, "operation": "ne"}))
    with pytest.raises(UserError) as caught:
        run_trial(config, study.ask(), tmp_path)
    assert [fault.code for fault in caught.value.faults] == ["sweep.grader-changed"]
    assert not (tmp_path / "trials" / "1").exists()


@pytest.mark.parametrize("size", [8, 12])
def test_validations_are_reported_by_their_number_whatever_the_batch_size(configure: Any, part: Any, size: int) -> None:
    trial_run, trial = part(NEVER)
    run = trial_run.train(configure("run_id=0", f"batch.size={size}"))
    with (run.path / "metrics.csv").open(newline="") as file:
        losses = [float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]]
    assert reports(trial) == pytest.approx(dict(enumerate(losses, 1)))
    assert len(losses) == 4


def test_a_pruned_run_records_the_reason_and_never_reads_the_test_split(configure: Any, part: Any) -> None:
    trial_run, trial = part(AFTER_TWO)
    with pytest.raises(Cancelled, match="pruned at validation 3"):
        trial_run.train(configure("run_id=0"))
    result = record(trial_run.home / "0")
    assert (result["state"], result["error"]["code"]) == ("cancelled", "pruned")
    assert list(reports(trial)) == [1, 2, 3]
    assert result["progress"]["step"] < result["progress"]["steps"]
    assert "test" not in result["metrics"]
    assert not (trial_run.home / "0" / "scores").exists()


def test_a_run_is_not_pruned_at_its_last_step(configure: Any, part: Any) -> None:
    trial_run, trial = part(ThresholdPruner(upper=0.0, n_warmup_steps=4))
    assert trial_run.train(configure("run_id=0")).state == "succeeded"
    assert list(reports(trial)) == [1, 2, 3, 4]


def test_a_resumed_run_continues_its_step_count(configure: Any, part: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config: Config = configure("run_id=0")
    trial_run, trial = part(NEVER)
    original = pl.LightningModule.on_train_batch_end
    monkeypatch.setattr(pl.LightningModule, "on_train_batch_end", _stop_after_two_reports(trial))
    with pytest.raises(Interrupted):
        trial_run.train(config)
    monkeypatch.setattr(pl.LightningModule, "on_train_batch_end", original)
    assert len(reports(trial)) == 2
    assert part(NEVER, trial)[0].train(config).state == "succeeded"
    assert list(reports(trial)) == [1, 2, 3, 4]


def _stop_after_two_reports(trial: optuna.Trial) -> Any:
    def hook(module: Any, *_: Any) -> None:
        if len(reports(trial)) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    return hook


def test_a_pruner_that_returns_numpy_values_can_be_resumed(configure: Any, part: Any) -> None:
    """MedianPruner does, as soon as it has trials to compare with."""

    class Numpy(NopPruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            return np.bool_(False)  # type: ignore[return-value]

    trial_run, _ = part(Numpy())
    config = configure("run_id=0", "base=false", "baselines=false")
    trial_run.train(config)
    saved = read_checkpoint(trial_run.home / "0" / "checkpoints" / "best.ckpt")["callbacks"]["Pruning"]
    assert saved["pruned"] is False
    assert "test" in trial_run.score(configure("run_id=0")).metrics


def test_killed_after_the_decision_a_pruned_run_stays_pruned(configure: Any, part: Any) -> None:
    trial_run, trial = part(AFTER_TWO)
    with pytest.raises(Cancelled):
        trial_run.train(configure("run_id=0"))
    folder = trial_run.home / "0"
    (folder / "run.json").write_text(json.dumps({**record(folder), "state": "running", "error": None}))
    with pytest.raises(Cancelled):
        part(AFTER_TWO, trial)[0].train(configure("run_id=0"))
    assert list(reports(trial)) == [1, 2, 3]


def test_a_finished_trial_is_scored_when_it_is_opened_again(configure: Any, part: Any) -> None:
    trial_run, _ = part(NEVER)
    config = configure("run_id=0", "base=false", "baselines=false")
    trial_run.train(config)
    trained = record(trial_run.home / "0")["progress"]
    run = trial_run.score(configure("run_id=0", "base=true", "baselines=true"))
    assert {"test", "base", "best"} <= run.metrics.keys()
    assert (run.path / "report.html").exists()
    assert record(run.path)["progress"] == trained
    with pytest.raises(UserError) as caught:  # by a worker that looked before the first one was done
        trial_run.score(configure("run_id=0", "base=true", "baselines=true"))
    assert [fault.code for fault in caught.value.faults] == ["run.finished"]
