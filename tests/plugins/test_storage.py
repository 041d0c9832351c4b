"""A storage that fails during a sweep is a fault that names it, and the same command resumes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from optuna import Trial
from optuna.exceptions import StorageInternalError
from sqlalchemy import event

from hydra_plugins.kamerton import _storage, _sweep
from hydra_plugins.kamerton._overrides import SweepError
from hydra_plugins.kamerton.trial import current_trial

Run = Callable[..., Any]
# A worker whose heart does not beat for two seconds is taken for dead: its trial is run again.
ASKED = ("x=1,2,3", "hydra/sweeper/sampler=grid", "hydra.sweeper.heartbeat_interval=1", "hydra.sweeper.grace_period=2")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program keeps a write transaction on the database open."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


def jobs(app: Any, monkeypatch: pytest.MonkeyPatch, does: Callable[[Trial], None]) -> None:
    """Make each job of the application do this before it returns."""

    def job(cfg: Any) -> Any:
        trial = current_trial()
        assert trial is not None
        does(trial)
        return app.work(cfg)

    main = app.hydra.main(version_base="1.3", config_path=str(Path(app.__file__).parent), config_name="app")(job)
    monkeypatch.setattr(app, "main", main)


@pytest.mark.slow
def test_a_locked_database_is_reported_and_the_same_command_resumes(
    sweep: Run, app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_storage, "_WAIT", 0.05)
    path = tmp_path / "sweep/study.db"
    with ExitStack() as locks, monkeypatch.context() as patch:
        jobs(app, patch, lambda trial: locks.enter_context(locked(path)) if trial.number == 1 else None)
        with pytest.raises(SweepError) as raised:
            sweep(*ASKED)
    message, _, fix = str(raised.value).partition("\n  fix: ")
    assert message == f"the storage sqlite:///{path} stopped answering: database is locked"
    assert f"fuser {path}" in fix
    assert "the same command again" in fix
    end = sweep(*ASKED)
    assert end.outcomes == {"complete": 3}  # with the trial that was interrupted, which ran again


@pytest.mark.slow
def test_a_rejected_report_does_not_fail_the_trial(
    sweep: Run, app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_storage, "_WAIT", 0.05)

    def report(trial: Trial) -> None:
        if trial.number == 0:
            with locked(tmp_path / "sweep/study.db"):
                trial.report(1.0, 0)

    with monkeypatch.context() as patch:
        jobs(app, patch, report)
        with pytest.raises(SweepError, match="stopped answering: database is locked"):
            sweep(*ASKED)
    assert sweep(*ASKED).outcomes == {"complete": 3}


@pytest.mark.slow
def test_a_full_disk_is_reported_and_the_same_command_resumes(
    sweep: Run, app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = _storage._share

    def small(engine: Any) -> None:
        share(engine)
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count=45"))

    with monkeypatch.context() as patch:
        patch.setattr(_storage, "_share", small)
        jobs(app, patch, lambda trial: trial.set_user_attr("note", "x" * 2000 * (1 + 50 * trial.number)))
        with pytest.raises(SweepError) as raised:
            sweep(*ASKED)
    message, _, fix = str(raised.value).partition("\n  fix: ")
    assert message == f"the storage sqlite:///{tmp_path}/sweep/study.db stopped answering: database or disk is full"
    assert "free space" in fix
    assert sweep(*ASKED).outcomes == {"complete": 3}


def test_a_file_of_the_sweep_that_cannot_be_written_is_named(
    sweep: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(_sweep, "replace", full)
    with pytest.raises(SweepError, match=r"multirun\.yaml cannot be written: No space left on device\n  fix: free"):
        sweep(*ASKED)


def test_an_error_of_the_application_is_not_taken_for_one_of_the_storage(
    sweep: Run, app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(trial: Trial) -> None:
        raise OSError(28, "No space left on device", "elsewhere")

    jobs(app, monkeypatch, fails)
    with pytest.raises(SweepError, match=r"no trial of .* completed"):
        sweep(*ASKED)


@pytest.mark.parametrize("wrapped", [False, True])
def test_causes_of_an_exception_are_followed(wrapped: bool) -> None:
    error: Exception = StorageInternalError("commit")
    if wrapped:
        error = RuntimeError("the run failed")
        error.__context__ = StorageInternalError("commit")
    assert _storage.lost(error)
    assert not _storage.lost(RuntimeError("something else"))


def test_a_cyclic_exception_chain_is_followed_once() -> None:
    first, second = ValueError("first"), KeyError("second")
    first.__context__, second.__context__ = second, first
    assert not _storage.lost(first)
    second.__context__ = StorageInternalError("locked")
    assert _storage.lost(first)
