"""The sweep's report: from a study to a page, and its display in a browser."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from hydra_plugins.kamerton._results import Best, Finished, best_trials
from hydra_plugins.kamerton._space import Space
from kamerton.sweep.report import write_sweep_report
from kamerton.sweep.summary import at_the_edge, rows, saved
from support.chrome import BINARY, chrome

HOSTILE = "<script>document.title = 'taken'</script>"
Made = Callable[..., tuple[optuna.Study, Finished]]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A study of 30 trials in which the learning rate matters, some pruned, one failed, one diverged."""

    def make(directions: tuple[str, ...] = ("minimize",)) -> tuple[optuna.Study, Finished]:
        sampler, pruner = optuna.samplers.RandomSampler(seed=1), optuna.pruners.MedianPruner(n_startup_trials=5)
        study = optuna.create_study(directions=list(directions), sampler=sampler, pruner=pruner)
        noise = random.Random(0)

        def objective(trial: optuna.Trial) -> Any:
            lr = trial.suggest_float("optimizer.lr", 1e-4, 1e-2, log=True)
            size = trial.suggest_categorical("batch.size", [8, 16, 32, 64])
            trial.suggest_categorical("adapter.targets", ["all-linear", HOSTILE])
            trial.set_user_attr("objective", ["loss", "parameters"][: len(directions)])
            trial.set_user_attr("outcome", "complete")
            value = (math.log10(lr) + 3) ** 2 + 0.01 * size / 8 + 0.02 * noise.random()
            if trial.number == 3:
                trial.set_user_attr("outcome", "failed")
                trial.set_user_attr("error", "OutOfMemoryError: token=hf_0123456789abcdef")
                raise RuntimeError
            if trial.number == 4:
                trial.set_user_attr("outcome", "diverged")
                raise optuna.TrialPruned
            for step in range(1, 5):
                trial.set_user_attr("steps", [10 * step, 40])
                if len(directions) == 1:
                    trial.report(value + 1 / step, step)
                    if trial.should_prune():
                        raise optuna.TrialPruned
            return value if len(directions) == 1 else (value, 100.0 * size)

        study.optimize(objective, n_trials=30, catch=(RuntimeError,))
        best = tuple(Best(t.number, t.number, tuple(t.values), t.params, ("a=1",)) for t in best_trials(study))
        return study, Finished(
            "s", tmp_path / "jsonl" / "s", directions, best, {"complete": 30}, (), "sqlite://", Space({})
        )

    (tmp_path / "jsonl" / "s").mkdir(parents=True)
    return make


def test_it_names_the_best_trial_what_mattered_and_what_pruning_saved(made: Made) -> None:
    study, end = made()
    page = write_sweep_report(study, end, ["kamerton train a=1 hydra.mode=RUN"])
    summary = json.loads((page.parent / "report.json").read_text())
    assert f"Trial {study.best_trial.number} is the best" in summary["headline"]
    assert max(summary["importance"], key=summary["importance"].get) == "optimizer.lr"
    steps = [trial.user_attrs["steps"] for trial in study.trials if "steps" in trial.user_attrs]
    pruned = [
        t.user_attrs["steps"] for t in study.trials if t.state == optuna.trial.TrialState.PRUNED and t.number != 4
    ]
    assert len(pruned) > 3
    assert summary["saved"]["done"] == sum(done for done, _ in steps)
    assert summary["saved"]["spared"] == sum(whole - done for done, whole in pruned)
    assert [row["outcome"] for row in summary["trials"]][3:5] == ["failed", "diverged"]
    for text in ((page.parent / "report.md").read_text(), page.read_text()):
        assert "kamerton train a=1 hydra.mode=RUN" in text
        assert "hf_0123456789abcdef" not in text
    assert HOSTILE not in (page.parent / "report.md").read_text()


def test_several_objectives_have_a_front(made: Made) -> None:
    study, end = made(("minimize", "minimize"))
    page = write_sweep_report(study, end)
    summary = json.loads((page.parent / "report.json").read_text())
    assert [row["number"] for row in summary["trials"] if row["best"]] == [item.number for item in end.best]
    assert "figure-pareto" in page.read_text()
    assert "figure-pareto" not in write_sweep_report(*made()).read_text()


def test_a_best_value_at_a_bound_of_its_range_is_reported(made: Made) -> None:
    study, _ = made()
    assert at_the_edge(study, {"optimizer.lr": 0.0099}) == ["optimizer.lr"]
    assert at_the_edge(study, {"optimizer.lr": 0.001, "batch.size": 64}) == []


def test_superseded_attempts_are_omitted() -> None:
    study = optuna.create_study()
    for attributes in ({}, {"failed_trial": 0, "retry_history": [0]}):
        trial = optuna.trial.create_trial(value=1.0, user_attrs={"steps": [5, 9]}, system_attrs=attributes)
        study.add_trial(trial)
    (row,) = rows(study)
    assert (row.number, row.directory) == (1, 0)
    assert saved([row]) == (5, 5, 0)


@pytest.mark.parametrize("directions", [("minimize",), ("minimize", "minimize")])
def test_a_study_without_a_completed_trial_has_a_report(tmp_path: Path, directions: tuple[str, ...]) -> None:
    study = optuna.create_study(directions=list(directions))
    page = write_sweep_report(study, Finished("s", tmp_path, directions, (), {}, (), "", Space({})))
    assert "No trial is done" in page.read_text()


@pytest.mark.browser
@pytest.mark.skipif(BINARY is None, reason="no Chromium is installed")
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True)])
@pytest.mark.parametrize("directions", [("minimize",), ("minimize", "minimize")])
def test_it_opens_without_complaint_and_fits(made: Made, directions: tuple[str, ...], width: int, dark: bool) -> None:
    page = write_sweep_report(*made(directions), ["kamerton train " + "a.long.key=value " * 30])
    with chrome() as browser:
        browser.open(page, width, dark=dark)
        assert browser.complaints == []
        assert browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        assert browser.run("document.title") != "taken"
        assert browser.run("document.querySelectorAll('.js-plotly-plot .main-svg').length") >= 6
        rows_ = browser.run("document.querySelectorAll('#trials tbody tr').length")
        assert rows_ == 30
