"""An invalid run directory is listed as unreadable with the reason, and does not hide the others."""

from __future__ import annotations

import copy
import io
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kamerton.cli import main
from kamerton.console import plain_console
from kamerton.errors import UserError
from kamerton.jobs.screen import job_facts, jobs_table, live_screen
from kamerton.jobs.store import list_jobs, read_status
from kamerton.locks import lock_owner
from kamerton.run.directory import read_events
from kamerton.run.opening import LOCK

RECORD: dict[str, Any] = {
    "run_id": "odd",
    "state": "failed",
    "times": {"created": "2026-01-02T03:04:05+00:00", "started": None, "finished": None},
    "heartbeat": "2026-01-02T03:04:05+00:00",
    "pid": 4711,
    "error": {"code": "job.lost", "message": "gone", "param": None},
    "progress": {
        "epoch": 0.5,
        "step": 3,
        "steps": 6,
        "eta_s": 2.0,
        "tokens": 9,
        "examples": {"processed": 1, "total": 2},
    },
    "metrics": {"train": {"loss": 0.5}, "validation": {"loss": 0.5}, "test": {"accuracy": 0.5, "loss": 1.0}},
    "model": {"name": "tiny"},
    "throughput": {"tokens_per_s": 10.0},
    "job": {"overrides": ["seed=1"], "cwd": "/", "limit": None, "queued": 1},
    "data": {"fingerprint": "ab", "counts": {"train": 1}},
}
ODD = [
    5,
    -1,
    0.5,
    True,
    None,
    "[/x]",
    "[bold",
    "\x00",
    "",
    [],
    [1],
    {},
    {"a": 1},
    float("nan"),
    float("-inf"),
    1e308,
    10**400,
]
NESTED = "[" * 100_000


def put(folder: Path, content: str | bytes) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def odd_records(seed: int) -> Iterator[dict[str, Any]]:
    """A real record with one to three of its values, at any depth, replaced or taken away."""
    chance = random.Random(seed)
    while True:
        record = copy.deepcopy(RECORD)
        for _ in range(chance.randint(1, 3)):
            node: dict[str, Any] = record
            key = chance.choice(list(node))
            while isinstance(node[key], dict) and node[key] and chance.random() < 0.7:
                node = node[key]
                key = chance.choice(list(node))
            if chance.random() < 0.1:
                del node[key]
            else:
                node[key] = copy.deepcopy(chance.choice(ODD))
            if not record:
                break
        yield record


def test_any_record_is_shown_or_named_as_unreadable(tmp_path: Path) -> None:
    """Randomly changed records: no list and no screen shows a traceback."""
    put(tmp_path / "good" / "one", json.dumps(RECORD))
    odd = put(tmp_path / "odd" / "two", "")
    states = set()
    for record, _ in zip(odd_records(seed=1), range(400), strict=False):
        (odd / "run.json").write_text(json.dumps(record))
        jobs = {job.id: job for job in list_jobs(tmp_path)}
        console = plain_console()
        console.file = io.StringIO()
        console.print(jobs_table(list(jobs.values())), soft_wrap=True)
        shown = console.file.getvalue()
        assert jobs["one"].state == "failed", record
        assert "good/one" in shown, record
        assert "odd/two" in shown, record
        states.add(jobs["two"].state)
        if jobs["two"].state == "unreadable":
            assert "odd/two: run.damaged: cannot read run.json: " in shown
        else:
            console.print(job_facts(jobs["two"]), live_screen(odd, jobs["two"]))
    assert {"unreadable", "failed"} <= states


def a_folder(file: Path) -> None:
    file.mkdir()


def a_link_to_nothing(file: Path) -> None:
    file.symlink_to(file.parent / "nothing")


def a_link_to_itself(file: Path) -> None:
    file.symlink_to(file)


def a_huge_file(file: Path) -> None:
    file.touch()
    os.truncate(file, 2**34)


CONTENTS: dict[str, str | bytes | Callable[[Path], None]] = {
    "nested": NESTED,
    "nested in a field": '{"state": ' + NESTED,
    "empty": "",
    "torn": '{"state": "runn',
    "not UTF-8": b'{"state": "\xff\xfe"}',
    "a list": "[]",
    "too many digits": '{"progress": {"step": ' + "9" * 5_000 + "}}",
    "a surrogate": '{"state": "\\ud800"}',
    "folder": a_folder,
    "pipe": os.mkfifo,
    "link to nothing": a_link_to_nothing,
    "link to itself": a_link_to_itself,
    "huge": a_huge_file,
}


@pytest.mark.parametrize("name", CONTENTS)
def test_an_invalid_run_json_does_not_hide_other_runs(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "good" / "one", json.dumps(RECORD))
    content = CONTENTS[name]
    (tmp_path / "odd").mkdir()
    if callable(content):
        (tmp_path / "odd" / "two").mkdir()
        content(tmp_path / "odd" / "two" / "run.json")
    else:
        put(tmp_path / "odd" / "two", content)
    assert main(["runs", "--outputs", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "good/one  failed" in shown
    assert "odd/two   unreadable" in shown
    assert "odd/two: run.damaged: cannot read run.json: " in shown
    for action in ("show", "watch", "stop", "resume"):
        assert main(["runs", "--outputs", str(tmp_path), action, "two"]) == 2
        assert "cannot read run.json" in capsys.readouterr().err


def test_a_dead_run_in_a_read_only_folder_is_shown_as_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a colleague's outputs, or a read-only mount."""
    path = put(tmp_path / "theirs" / "one", json.dumps({**RECORD, "state": "running", "error": None}))
    monkeypatch.setattr("kamerton.jobs.store.acquire", refused)
    assert read_status(path).state == "failed"
    assert json.loads((path / "run.json").read_text())["state"] == "running"


def refused(path: Path) -> None:
    raise PermissionError(13, "Permission denied", str(path))


def test_a_list_writes_nothing_and_no_lock_follows_a_link(tmp_path: Path) -> None:
    """A foreign folder may contain a link to any of the user's files."""
    path = put(tmp_path / "outputs" / "theirs" / "one", json.dumps({**RECORD, "state": "running", "error": None}))
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    for name in (LOCK, "events.jsonl", ".run.json.partial"):
        (path / name).symlink_to(mine)
    before = (path / "run.json").read_bytes()
    assert [job.state for job in list_jobs(tmp_path / "outputs")] == ["failed"]
    assert (path / "run.json").read_bytes() == before
    assert read_status(path).state == "failed"
    (path / LOCK).unlink()
    assert read_status(path).state == "failed"
    assert mine.read_text() == "precious"


def test_a_run_whose_lock_cannot_be_read_is_unreadable(tmp_path: Path) -> None:
    """A run whose lock cannot be read is reported, not guessed."""
    path = put(tmp_path / "theirs" / "one", json.dumps({**RECORD, "state": "running", "error": None}))
    (path / LOCK).mkdir()
    (job,) = list_jobs(tmp_path)
    assert job.state == "unreadable"
    assert "cannot tell whether the run is active" in str(job.error)
    with pytest.raises(UserError, match="cannot tell whether the run is active"):
        read_status(path)


def test_a_pipe_in_place_of_a_lock_does_not_block(tmp_path: Path) -> None:
    path = put(tmp_path / "odd" / "one", json.dumps({**RECORD, "state": "running", "error": None}))
    os.mkfifo(path / LOCK)
    assert lock_owner(path / LOCK) is None
    assert read_status(path).state == "failed"


def test_an_unreadable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "good" / "one", json.dumps(RECORD))
    (tmp_path / "closed").mkdir()
    real = os.scandir

    def scandir(folder: Path) -> Any:
        if Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    jobs = {job.path.name: job.state for job in list_jobs(tmp_path)}
    assert jobs == {"one": "failed", "closed": "unreadable"}
    with pytest.raises(UserError, match="cannot read"):
        list_jobs(tmp_path / "closed")


def test_invalid_event_lines_are_skipped(tmp_path: Path) -> None:
    lines = ['{"code": "a"}', "5", NESTED, "null", '["x"]', '{"code": "[/b]", "level": "[/x]"}']
    (tmp_path / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))
    assert [event["code"] for event in read_events(tmp_path)[0]] == ["a", "[/b]"]
