"""Trials in separate processes: the study does not depend on the launcher, and a stop reaches all of them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from support.workers import Worker, await_that, ended, notes

pytestmark = pytest.mark.slow

PROCESS = "hydra/launcher=process"


def trials(folder: Path) -> list[FrozenTrial]:
    return optuna.load_study(study_name="kept", storage=f"sqlite:///{folder}/sweep/study.db").trials


def test_a_study_is_the_same_as_in_one_process(sweep: Callable[..., Any], tmp_path: Path, worker: Worker) -> None:
    """With trials that complete, are pruned, fail and diverge."""
    options = ["x=interval(-2,2)", "fails_at=-1.5", "nan_at=-1", "prunes=true", "steps=2", "hydra.sweeper.n_trials=4"]
    options += ["hydra.sweeper.enqueue=[{x:1.5},{x:-0.9},{x:-1.2},{x:-1.9}]", "hydra.sweeper.study_name=kept"]
    options += ["hydra.sweeper.pruner.n_startup_trials=1"]
    sweep(*options)
    other = tmp_path / "other"
    other.mkdir()
    with worker(other, *options, PROCESS) as process:
        output = ended(process)
    outcomes = [[trial.user_attrs["outcome"] for trial in trials(folder)] for folder in (tmp_path, other)]
    assert outcomes[0] == outcomes[1]
    assert outcomes[0] == ["complete", "pruned", "diverged", "failed"]
    for here, there in zip(trials(tmp_path), trials(other), strict=True):
        assert (here.state, here.params, here.values) == (there.state, there.params, there.values)
        assert here.intermediate_values == there.intermediate_values
        assert notes(other / f"sweep/trials/{there.number}")[0]["pid"] != process.pid
    assert "RuntimeError: x is" in output
    assert "hunter2" not in "".join(str(trial.user_attrs) for trial in trials(other))


def test_a_killed_trial_does_not_affect_other_trials(tmp_path: Path, worker: Worker) -> None:
    """As the system kills what has taken all memory."""
    options = ("x=interval(-2,2)", "killed_at=1.3", "hydra.sweeper.enqueue=[{x:1.5},{x:1.2},{x:1.4}]", PROCESS)
    with worker(tmp_path, *options, "hydra.sweeper.n_trials=3", "hydra.sweeper.study_name=kept") as process:
        ended(process)
    before, killed, after = trials(tmp_path)
    assert [trial.user_attrs["outcome"] for trial in (before, killed, after)] == ["complete", "failed", "complete"]
    assert "job 1 was killed by SIGKILL (out of memory?)" in killed.user_attrs["error"]
    assert "more and more memory" in killed.user_attrs["error"]


def test_submitit_finds_the_trial_as_well(tmp_path: Path, worker: Worker) -> None:
    """SLURM's launcher with its local executor: pickled jobs in processes that know the study from Hydra alone."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    options = ["x=interval(-2,2)", "prunes=true", "steps=1", "hydra.sweeper.enqueue=[{x:1.5},{x:-1.9}]"]
    options += ["hydra.sweeper.study_name=kept", "hydra.sweeper.n_trials=2", "hydra.sweeper.pruner.n_startup_trials=1"]
    with worker(tmp_path, *options, "hydra/launcher=submitit_local") as process:
        ended(process)
    assert [trial.user_attrs["outcome"] for trial in trials(tmp_path)] == ["complete", "pruned"]
    assert [list(trial.intermediate_values) for trial in trials(tmp_path)] == [[0], [0]]


def test_ctrl_c_interrupts_all_running_trials_and_the_same_command_resumes(tmp_path: Path, worker: Worker) -> None:
    options = ("x=interval(-2,2)", "gate=gate", "hydra.sweeper.n_trials=3", "hydra.sweeper.study_name=kept", PROCESS)
    (tmp_path / "gate").touch()
    with worker(tmp_path, *options, "hydra.sweeper.n_jobs=2") as first:
        await_that(lambda: all(notes(tmp_path / f"sweep/trials/{number}") for number in (0, 1)))
        first.send_signal(signal.SIGINT)
        first.wait(600)
        assert first.returncode not in (0, -signal.SIGKILL)
    ran = [trial for trial in trials(tmp_path) if trial.state != TrialState.WAITING]
    assert [trial.user_attrs["outcome"] for trial in ran] == ["interrupted"] * 2
    (tmp_path / "gate").unlink()
    with worker(tmp_path, *options) as second:
        ended(second)
    complete = [trial for trial in trials(tmp_path) if trial.state == TrialState.COMPLETE]
    assert len(complete) == 3
    assert {tuple(trial.params.items()) for trial in ran} <= {tuple(trial.params.items()) for trial in complete}
