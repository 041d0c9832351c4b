"""The state of jobs in run directories; a run without a process does not stay "running"."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from kamerton.errors import UserError
from kamerton.jobs.locate import find_run
from kamerton.jobs.store import WORKER, list_jobs, mark, read_status
from kamerton.locks import acquire
from kamerton.run.directory import read_events
from kamerton.run.opening import LOCK


def make(root: Path, name: str, state: str = "running", **record: Any) -> Path:
    path = root / name
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"state": state, **record}))
    return path


def test_a_run_without_its_process_is_shown_as_failed(tmp_path: Path) -> None:
    path = make(tmp_path, "animals/one", pid=4711)
    status = read_status(path)
    assert status.state == "failed"
    assert status.error is not None
    assert status.error["code"] == "job.lost"
    assert "4711" in status.error["message"]
    assert read_events(path)[0][-1]["level"] == "error"


@pytest.mark.parametrize("name", [WORKER, LOCK])
def test_a_run_owned_by_another_process_keeps_its_state(tmp_path: Path, name: str) -> None:
    path = make(tmp_path, "animals/one", "queued")
    lock = acquire(path / name)
    assert lock is not None
    assert read_status(path).state == "queued"
    assert not (name == LOCK and mark(path, "paused"))
    lock.close()
    assert read_status(path).state == "failed"


def test_a_run_of_another_machine_is_not_declared_dead(tmp_path: Path) -> None:
    """Over a network, its lock may not be seen here."""
    path = make(tmp_path, "animals/one")
    (path / LOCK).write_text(f"12 not-{socket.gethostname()}")
    assert read_status(path).state == "running"


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "paused"])
def test_a_run_that_ended_keeps_its_state(tmp_path: Path, state: str) -> None:
    assert read_status(make(tmp_path, "animals/one", state)).state == state


def test_progress_and_metrics_are_those_of_the_record(tmp_path: Path) -> None:
    progress = {"step": 3, "steps": 12, "epoch": 0.5, "eta_s": 9.0, "examples": {"processed": 24, "total": 96}}
    metrics = {"train": {"loss": 0.5}}
    status = read_status(make(tmp_path, "animals/one", "paused", progress=progress, metrics=metrics))
    assert (status.step, status.steps, status.eta_s, status.progress) == (3, 12, 9.0, 0.25)
    assert status.examples["total"] == 96
    assert status.metrics["train"]["loss"] == 0.5


def test_jobs_are_found_by_id_name_and_path_and_nothing_else(tmp_path: Path) -> None:
    first_run = make(tmp_path, "animals/one", "paused", times={"created": "2026-01-01"})
    make(tmp_path, "animals/two", "paused", times={"created": "2026-01-02"})
    other = make(tmp_path, "plants/two", "paused", times={"created": "2026-01-03"})
    make(tmp_path, ".hidden/three", "paused")
    assert (
        find_run(tmp_path, "one")
        == find_run(tmp_path, "animals/one")
        == find_run(tmp_path, str(first_run))
        == first_run
    )
    assert find_run(tmp_path, "plants/two") == other
    assert [job.path.parent.name for job in list_jobs(tmp_path)] == ["plants", "animals", "animals"]
    for name, code in {"two": "job.several", "onne": "job.unknown", "../x": "job.unknown", "*": "job.unknown"}.items():
        with pytest.raises(UserError) as error:
            find_run(tmp_path, name)
        assert error.value.faults[0].code == code
    with pytest.raises(UserError, match="did you mean 'one'"):
        find_run(tmp_path, "onne")
    with pytest.raises(UserError, match="valid here: animals/two, one, plants/two"):
        find_run(tmp_path, "nothing")


def test_events_are_read_once_and_a_torn_line_waits_for_its_end(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    assert read_events(tmp_path) == ([], 0)
    file.write_text('{"code": "a"}\n{"code": "b"}\n{"code"')
    events, place = read_events(tmp_path)
    assert [event["code"] for event in events] == ["a", "b"]
    file.write_text('{"code": "a"}\n{"code": "b"}\n{"code": "c"}\nnonsense\n')
    assert read_events(tmp_path, place) == ([{"code": "c"}], file.stat().st_size)
