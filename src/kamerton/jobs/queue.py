"""Whose turn it is: so many jobs at once on a machine, each with GPUs of its own.

Jobs of one owner run in the order they were queued in. Of several owners the one with the fewest running jobs is next,
then the one whose last job began longest ago.

Everything is a lock file below `<root>/.jobs/<machine>/`: a ticket for each worker, first in `waiting`, then in
`running`, and a slot for each running job; the time of a file in `begun` is when the last job of an owner began. A
process that is killed gives its place away by being gone. GPUs are those that no sweep of this user holds.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from hydra_plugins.kamerton._gpus import Gpus, free_gpus, visible_gpus
from kamerton.locks import acquire, lock_owner

POLL_S = 0.2


@contextmanager
def turn(root: Path, queued: int, limit: int | None, gpus: int | None, owner: str = "") -> Iterator[Gpus]:
    """Wait until fewer than `limit` jobs of `root` run here, and until `gpus` GPUs are free; then be one of them.

    `queued` (nanoseconds) orders those of one `owner` who wait; owners take turns. `limit` None is one for each GPU, or
    one. `gpus` None is all that are visible. What is yielded has the environment that shows the GPUs, and the locks
    that the job must hold as well.
    """
    visible = len(visible_gpus())
    folder = root / ".jobs" / socket.gethostname()
    with _ticket(folder, f"{queued:020d}-{os.getpid()}-{owner}") as ticket, ExitStack() as held:
        slot = _slot(folder, ticket, limit or visible or 1)
        held.enter_context(slot)
        mine = held.enter_context(free_gpus(gpus if gpus is not None and gpus <= visible else None))
        (folder / "begun" / f"of-{_owner(ticket)}").touch()
        (folder / "waiting" / ticket).rename(folder / "running" / ticket)
        yield dataclasses.replace(mine, locks=(*mine.locks, slot.fileno()))


@contextmanager
def _ticket(folder: Path, name: str) -> Iterator[str]:
    """A place in the queue. It is held before it is seen: an unheld one is a dead worker's."""
    for place in ("waiting", "running", "begun"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    lock = acquire(folder / "waiting" / f".{name}")
    assert lock is not None  # nobody else uses this name
    with lock:
        (folder / "waiting" / f".{name}").rename(folder / "waiting" / name)
        try:
            yield name
        finally:
            for place in ("waiting", "running"):
                (folder / place / name).unlink(missing_ok=True)


def _slot(folder: Path, ticket: str, limit: int) -> IO[str]:
    """A free slot, held, as soon as this ticket is the first."""
    while True:
        if _is_first(folder, ticket):
            for number in range(limit):
                slot = acquire(folder / f"slot-{number}", patience=0)
                if slot is not None:
                    return slot
        time.sleep(POLL_S)


def _is_first(folder: Path, ticket: str) -> bool:
    running = Counter(_owner(path.name) for path in (folder / "running").iterdir() if _is_alive(path))
    begun = {path.name.removeprefix("of-"): path.stat().st_mtime_ns for path in (folder / "begun").iterdir()}

    def rank(name: str) -> tuple[int, int, str]:
        return running[_owner(name)], begun.get(_owner(name), 0), name

    waiting = [path for path in (folder / "waiting").iterdir() if not path.name.startswith(".")]
    before = sorted((path for path in waiting if rank(path.name) < rank(ticket)), key=lambda path: rank(path.name))
    return not any(map(_is_alive, before))


def _owner(ticket: str) -> str:
    return "-".join(ticket.split("-")[2:])


def _is_alive(ticket: Path) -> bool:
    """Whether the worker of a ticket lives; the ticket of a dead one is removed."""
    try:
        if lock_owner(ticket) is not None:
            return True
    except FileNotFoundError:  # it has just been moved
        return False
    ticket.unlink(missing_ok=True)
    return False
