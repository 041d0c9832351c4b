"""Workers that are killed, interrupted or paused: no trial is lost or finished twice."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState

from support.warm import Warm
from support.workers import QUICK, Worker, await_that, ended, notes

pytestmark = pytest.mark.slow

ASKED = ("x=interval(-2,2)", "steps=2", "gate=gate", "hydra.sweeper.n_trials=3", "hydra.sweeper.study_name=kept")


def trials(folder: Path) -> list[FrozenTrial]:
    return optuna.load_study(study_name="kept", storage=f"sqlite:///{folder}/sweep/study.db").trials


def begun(folder: Path, number: int) -> bool:
    return bool(notes(folder / f"sweep/trials/{number}"))


def reported(folder: Path) -> bool:
    return begun(folder, 0) and len(trials(folder)[0].intermediate_values) == 2


def pause(process: Warm, folder: Path) -> None:
    """Stop a worker at a moment when it has no lock of the database: with one, no other could ever write."""
    with closing(sqlite3.connect(folder / "sweep/study.db", timeout=600, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        process.send_signal(signal.SIGSTOP)
        await_that(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        database.execute("ROLLBACK")


def test_a_killed_trial_is_detected_and_rerun_in_its_directory(tmp_path: Path, worker: Worker) -> None:
    (tmp_path / "gate").touch()
    with worker(tmp_path, *ASKED, *QUICK) as first:
        await_that(lambda: reported(tmp_path))
        first.kill()
        first.wait()
    (tmp_path / "gate").unlink()
    with worker(tmp_path, *ASKED, *QUICK) as second:
        output = ended(second)
    dead, *others = trials(tmp_path)
    assert (dead.state, dead.user_attrs["outcome"]) == (TrialState.FAIL, "killed")
    assert len(others) == 3
    (again,) = [trial for trial in others if trial.system_attrs.get("failed_trial") == 0]
    assert (again.params, again.intermediate_values) == (dead.params, dead.intermediate_values)
    assert all(trial.state == TrialState.COMPLETE for trial in others)
    assert [set(note) & {"begins", "ends"} for note in notes(tmp_path / "sweep/trials/0")] == [
        *({"begins"}, {"begins"}, {"ends"})
    ]
    assert not (tmp_path / f"sweep/trials/{again.number}").exists()
    assert "3 trials (3 complete)" in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_trial_is_resumed_first(tmp_path: Path, worker: Worker, number: signal.Signals) -> None:
    (tmp_path / "gate").touch()
    with worker(tmp_path, *ASKED) as first:
        await_that(lambda: reported(tmp_path))
        first.send_signal(number)
        first.wait(600)
        assert first.returncode not in (0, -signal.SIGKILL)
    (stopped,) = trials(tmp_path)
    assert (stopped.state, stopped.user_attrs["outcome"]) == (TrialState.FAIL, "interrupted")
    (tmp_path / "gate").unlink()
    with worker(tmp_path, *ASKED) as second:
        ended(second)
    _, again, *rest = trials(tmp_path)
    assert again.params == stopped.params
    assert [trial.state for trial in (again, *rest)] == [TrialState.COMPLETE] * 3
    assert [note.get("ends") for note in notes(tmp_path / "sweep/trials/0")] == [None, None, 1]


def test_a_worker_declared_dead_gives_up_its_trial(tmp_path: Path, worker: Worker) -> None:
    (tmp_path / "gate").touch()
    with worker(tmp_path, *ASKED, *QUICK) as paused, worker(tmp_path, *ASKED, *QUICK) as other:
        await_that(lambda: begun(tmp_path, 0) and begun(tmp_path, 1))
        is_first = notes(tmp_path / "sweep/trials/0")[0]["pid"] == paused.pid
        number = 0 if is_first else 1
        pause(paused, tmp_path)
        (tmp_path / "gate").unlink()
        ended(other)
        paused.send_signal(signal.SIGCONT)
        ended(paused)
    complete = [trial for trial in trials(tmp_path) if trial.state == TrialState.COMPLETE]
    assert len(complete) == 3
    assert [trial.number for trial in trials(tmp_path) if trial.state != TrialState.COMPLETE] == [number]


def test_workers_on_one_sqlite_file_run_each_trial_once(tmp_path: Path, worker: Worker) -> None:
    options = ("x=interval(-2,2)", "hydra.sweeper.n_trials=12", "hydra.sweeper.study_name=kept")
    with worker(tmp_path, *options) as first, worker(tmp_path, *options) as two, worker(tmp_path, *options) as three:
        for process in (first, two, three):
            ended(process)
    ran = [trial for trial in trials(tmp_path) if trial.state != TrialState.WAITING]
    assert [trial.state for trial in ran] == [TrialState.COMPLETE] * 12
    assert len({trial.params["x"] for trial in ran}) == 12
    for trial in ran:
        assert len(notes(tmp_path / f"sweep/trials/{trial.number}")) == 2
