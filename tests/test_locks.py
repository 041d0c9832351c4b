"""Lock files: one holder, known by name, and free as soon as its process is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from kamerton.locks import Holder, hold, holder, last_holder, name_holder

HOLD = """
import sys, time
from pathlib import Path
from kamerton.locks import hold
lock = hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(100)
"""


def test_a_lock_has_one_holder_who_is_known_until_it_lets_go(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert holder(path) is None
    lock = hold(path)
    assert lock is not None
    assert hold(path, patience=0) is None
    found = holder(path)
    assert found is not None
    assert (found.pid, found.is_here) == (os.getpid(), True)
    name_holder(lock, 4711)
    assert last_holder(path).pid == 4711
    lock.close()
    assert holder(path) is None
    again = hold(path, patience=0)
    assert again is not None
    assert last_holder(path).pid == os.getpid()  # not that of an earlier, longer name
    again.close()
    unnamed = hold(path, named=False)  # a child will say who it is
    assert unnamed is not None
    assert holder(path) == Holder(None, "")
    unnamed.close()


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert holder(path) == Holder(process.pid, last_holder(path).host)
        process.kill()
    assert holder(path) is None
    assert last_holder(path).pid == process.pid


def test_another_machine_is_told_apart() -> None:
    assert not Holder(1, "elsewhere").is_here
