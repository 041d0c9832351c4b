"""A job's own trial, in the process of the sweep and in another one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import optuna
import pytest

from hydra_plugins.kamerton import _trial
from hydra_plugins.kamerton._study import PRUNER
from hydra_plugins.kamerton._trial import TRIAL_VARIABLE, current_trial, original_number
from support.workers import APP

JOB = """
from hydra_plugins.kamerton.trial import current_trial
trial = current_trial()
trial.report(9.0, 0)
trial.set_user_attr("outcome", "diverged")
print(trial.number, trial.params, trial.should_prune())
"""


def test_outside_of_a_sweep_there_is_none() -> None:
    assert current_trial() is None


def test_a_job_in_another_process_reports_to_its_trial_and_asks_the_studys_pruner(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=url, study_name="mine")
    study.set_user_attr(PRUNER, {"_target_": "optuna.pruners.ThresholdPruner", "upper": 5.0})
    options = study.ask({"x": optuna.distributions.IntDistribution(3, 3)})
    named = json.dumps({"study_name": "mine", "storage": url, "number": options.number})
    environment = {"PYTHONPATH": ":".join(sys.path), TRIAL_VARIABLE: named}
    done = subprocess.run([sys.executable, "-c", JOB], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "0 {'x': 3} True\n"
    (seen,) = study.trials
    assert seen.intermediate_values == {0: 9.0}
    assert seen.user_attrs["outcome"] == "diverged"


def test_a_job_that_a_launcher_ran_elsewhere_finds_its_trial_in_its_configuration(
    sweep: Callable[..., Any], app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of joblib or submitit: another process, whose configuration was composed from the same overrides."""
    result = []

    def job(cfg: Any) -> float:
        _trial._running.clear()  # this process has made no trial
        own = current_trial()
        assert own is not None
        own.report(float(cfg.x), own.number)
        result.append(own)
        return float(cfg.x)

    monkeypatch.setattr(
        app, "main", hydra.main(version_base="1.3", config_path=str(APP.parent), config_name="app")(job)
    )
    end = sweep("x=interval(0,1)", "hydra.sweeper.n_trials=2")
    assert [item.number for item in result] == [0, 1]
    for item in optuna.load_study(study_name=end.study_name, storage=end.storage).trials:
        assert item.intermediate_values == {item.number: item.value}


@pytest.mark.parametrize("attributes", [{}, {"failed_trial": 2}])
def test_the_first_number_of_a_trial_is_that_of_its_directory(attributes: dict[str, int]) -> None:
    frozen = optuna.trial.create_trial(value=0.0, system_attrs=attributes)
    frozen.number = 5
    assert original_number(frozen) == attributes.get("failed_trial", 5)
