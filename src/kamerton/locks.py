"""Lock files that name the process working on a run; the operating system frees them when it ends, however it ends.

A lock file names its last owner (process and machine), so that the owner can be signalled: while the lock is held,
that process is alive, and its number cannot have been given to another one. (The package `filelock` names no owner,
and its locks cannot be handed to a child process.)
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kamerton.files import at_once, own_file

try:
    import fcntl
except ImportError:  # Windows: two processes there are not kept from sharing a run
    fcntl = None  # type: ignore[assignment]

_MAX_LENGTH = 300  # characters: a number and a name
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class LockOwner:
    """A process; `pid` is None if it has not written its number yet."""

    pid: int | None
    host: str

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host in ("", socket.gethostname())

    def __str__(self) -> str:
        process = "a process" if self.pid is None else f"process {self.pid}"
        return f"{process} on {self.host}" if self.host else process


def acquire(path: Path, patience: float = 0.3, *, named: bool = True) -> IO[str] | None:
    """Take the lock at `path` until the returned file is closed or this process ends; None while another holds it.

    `patience`, in seconds, outlasts those who only look whether it is held (`lock_owner`). A lock that is not `named`
    will be handed to a child process, which then names itself (`name_owner`).
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
        name_owner(file, os.getpid())
    else:
        file.truncate(0)
    return file


@contextmanager
def exclusive(path: Path, on_timeout: Callable[[str], None], patience: float = PATIENCE_S) -> Iterator[None]:
    """Hold the lock at `path` inside the block, so that processes write the same files one after the other.

    Read what is written inside the block as well: then the last writer writes the newest. After `patience` seconds
    `on_timeout` is called with who holds the lock, and unless it raises, the block runs without it.
    """
    lock = acquire(path, patience)
    if lock is None:
        on_timeout(f"{path} is still locked after {patience:.0f} s, by {last_owner(path)}")
    try:
        yield
    finally:
        if lock is not None:
            lock.close()


def name_owner(file: IO[str], pid: int) -> None:
    """Write the owner of a held lock into it: the process `pid` of this machine, such as a child it was handed to."""
    file.truncate(0)
    file.write(f"{pid} {socket.gethostname()}")
    file.flush()


def lock_owner(path: Path) -> LockOwner | None:
    """Return the process that holds the lock at `path`, None if it is free; does not block others."""
    if fcntl is None or not path.exists():
        return None
    with open(path, encoding="utf-8", opener=at_once) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return last_owner(path)
    return None


def last_owner(path: Path) -> LockOwner:
    """Return the process that holds the lock at `path`, or held it last."""
    if not path.exists():
        return LockOwner(None, "")
    with open(path, encoding="utf-8", errors="replace", opener=at_once) as file:
        pid, _, host = file.read(_MAX_LENGTH).partition(" ")
    return LockOwner(int(pid) if pid.isdecimal() else None, host)
