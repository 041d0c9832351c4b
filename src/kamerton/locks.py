"""Who works on a run: lock files, which the operating system frees when their process ends, however it ends.

A lock file names its last holder (process and machine), so that the holder can be signalled: while the lock is held,
that process is alive, and its number cannot have been given to another one.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kamerton.files import at_once, own_file

try:
    import fcntl
except ImportError:  # Windows: two processes there are not kept from sharing a run
    fcntl = None  # type: ignore[assignment]

_LONGEST = 300  # characters: a number and a name
_PATIENCE = 120.0  # seconds for those whose turn comes first


@dataclass(frozen=True, slots=True)
class Holder:
    """A process; `pid` is None where it has not said yet who it is."""

    pid: int | None
    host: str

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host in ("", socket.gethostname())


def hold(path: Path, patience: float = 0.3, *, named: bool = True) -> IO[str] | None:
    """Take the lock at `path` until the returned file is closed or this process ends; None while another holds it.

    `patience`, in seconds, outlasts those who only look whether it is held (`holder`). One that is not `named` will be
    handed to a child, which says who it is (`name_holder`).
    """
    file = open(path, "a", encoding="utf-8", opener=own_file)  # noqa: SIM115 (closed by whoever holds it)
    end = time.monotonic() + patience
    while fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if time.monotonic() >= end:
                file.close()
                return None
            time.sleep(0.01)
    if named:
        name_holder(file, os.getpid())
    else:
        file.truncate(0)
    return file


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Hold the lock at `path` meanwhile: those that write the same files do so one after the other. What is written is
    to be read within the turn, so that the last one writes the newest. After two minutes it is nobody's turn.
    """
    lock = hold(path, _PATIENCE)
    try:
        yield
    finally:
        if lock is not None:
            lock.close()


def name_holder(file: IO[str], pid: int) -> None:
    """Write into a lock that is held who holds it: a child may have been given it."""
    file.truncate(0)
    file.write(f"{pid} {socket.gethostname()}")
    file.flush()


def holder(path: Path) -> Holder | None:
    """Who holds the lock at `path`; None where nobody does. Looking keeps nobody from taking it."""
    if fcntl is None or not path.exists():
        return None
    with open(path, encoding="utf-8", opener=at_once) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return last_holder(path)
    return None


def last_holder(path: Path) -> Holder:
    """Who held the lock at `path` last, or holds it."""
    if not path.exists():
        return Holder(None, "")
    with open(path, encoding="utf-8", errors="replace", opener=at_once) as file:
        pid, _, host = file.read(_LONGEST).partition(" ")
    return Holder(int(pid) if pid.isdecimal() else None, host)
