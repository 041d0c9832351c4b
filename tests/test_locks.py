"""Lock files: one holder, known by name, and free as soon as its process is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kamerton.locks import LockOwner, acquire, exclusive, last_owner, lock_owner, name_owner

HOLD = """
import sys, time
from pathlib import Path
from kamerton.locks import acquire
lock = acquire(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(100)
"""


def test_a_lock_names_its_owner_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert lock_owner(path) is None
    lock = acquire(path)
    assert lock is not None
    assert acquire(path, patience=0) is None
    owner = lock_owner(path)
    assert owner is not None
    assert (owner.pid, owner.is_here) == (os.getpid(), True)
    name_owner(lock, 4711)
    assert last_owner(path).pid == 4711
    lock.close()
    assert lock_owner(path) is None
    again = acquire(path, patience=0)
    assert again is not None
    assert last_owner(path).pid == os.getpid()  # not that of an earlier, longer name
    again.close()
    unnamed = acquire(path, named=False)  # a child will say who it is
    assert unnamed is not None
    assert lock_owner(path) == LockOwner(None, "")
    unnamed.close()


def test_a_killed_process_releases_its_locks(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert lock_owner(path) == LockOwner(process.pid, last_owner(path).host)
        process.kill()
    assert lock_owner(path) is None
    assert last_owner(path).pid == process.pid


def test_another_machine_is_told_apart() -> None:
    assert not LockOwner(1, "elsewhere").is_here


def test_a_lock_timeout_reports_the_owner_and_continues_without_the_lock(tmp_path: Path) -> None:
    path, reported, ran = tmp_path / ".lock", [], []
    with exclusive(path, reported.append):
        assert lock_owner(path) == LockOwner(os.getpid(), last_owner(path).host)
        with exclusive(path, reported.append, patience=0):
            ran.append("without the lock")
    assert reported == [f"{path} is still locked after 0 s, by process {os.getpid()} on {last_owner(path).host}"]
    assert ran
    assert lock_owner(path) is None

    def refuse(message: str) -> None:
        raise TimeoutError(message)

    lock = acquire(path)
    assert lock is not None
    with lock, pytest.raises(TimeoutError, match="still locked"), exclusive(path, refuse, patience=0):
        ran.append("never")
    assert "never" not in ran
