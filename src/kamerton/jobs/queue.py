"""Job queue of one machine: a limited number of running jobs, each with its own GPUs.

Jobs of one owner run in the order they were queued. Among several owners, the one with the fewest running jobs is next,
then the one whose last job started longest ago.

The state consists of lock files below `<root>/.jobs/<machine>/`: a ticket per worker, first in `waiting`, then in
`running`, and a slot per running job; the modification time of a file in `begun` is the start of an owner's last job.
The locks of a killed process are released by the system. GPUs held by sweeps of this user are not used.
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
def queue_slot(root: Path, queued: int, limit: int | None, gpus: int | None, owner: str = "") -> Iterator[Gpus]:
    """Wait until fewer than `limit` jobs of `root` run on this machine and `gpus` GPUs are free, then hold both.

    `queued` (nanoseconds) orders the waiting jobs of one `owner`; owners take turns. `limit` None means one job per
    GPU, or one without GPUs. `gpus` None means all visible ones. Yields the environment that selects the GPUs, and the
    locks that the job's process must inherit.
    """
    visible = len(visible_gpus())
    folder = root / ".jobs" / socket.gethostname()
    with _ticket(folder, f"{queued:020d}-{os.getpid()}-{owner}") as ticket, ExitStack() as stack:
        slot = _slot(folder, ticket, limit or visible or 1)
        stack.enter_context(slot)
        reserved = stack.enter_context(free_gpus(gpus if gpus is not None and gpus <= visible else None))
        begun = folder / "begun" / f"of-{_owner(ticket)}"
        begun.touch()
        os.utime(begun, ns=(time.time_ns(),) * 2)  # `touch` counts in steps of some milliseconds
        (folder / "waiting" / ticket).rename(folder / "running" / ticket)
        # removed before the slot is free: whoever takes that slot must not count this job as running
        stack.callback((folder / "running" / ticket).unlink, missing_ok=True)
        yield dataclasses.replace(reserved, locks=(*reserved.locks, slot.fileno()))


@contextmanager
def _ticket(folder: Path, name: str) -> Iterator[str]:
    """Hold a ticket in the queue. It is locked before it becomes visible, since an unlocked one counts as dead."""
    for place in ("waiting", "running", "begun"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    lock = acquire(folder / "waiting" / f".{name}")
    assert lock is not None  # the name is unique to this process
    with lock:
        (folder / "waiting" / f".{name}").rename(folder / "waiting" / name)
        try:
            yield name
        finally:
            for place in ("waiting", "running"):
                (folder / place / name).unlink(missing_ok=True)


def _slot(folder: Path, ticket: str, limit: int) -> IO[str]:
    """Wait until this ticket is first and a slot is free; return the slot's lock."""
    while True:
        if _is_first(folder, ticket):
            for number in range(limit):
                slot = acquire(folder / f"slot-{number}", patience=0)
                if slot is None:
                    continue
                if _is_first(folder, ticket):  # another job may have run since the last look
                    return slot
                slot.close()
                break
        time.sleep(POLL_S)


def _is_first(folder: Path, ticket: str) -> bool:
    # `waiting` is read first: a job that has left it is then counted in `begun` and `running`
    waiting = [path for path in (folder / "waiting").iterdir() if not path.name.startswith(".")]
    running = Counter(_owner(path.name) for path in (folder / "running").iterdir() if _is_alive(path))
    started = {path.name.removeprefix("of-"): path.stat().st_mtime_ns for path in (folder / "begun").iterdir()}

    def rank(name: str) -> tuple[int, int, str]:
        return running[_owner(name)], started.get(_owner(name), 0), name

    earlier = sorted((path for path in waiting if rank(path.name) < rank(ticket)), key=lambda path: rank(path.name))
    return not any(map(_is_alive, earlier))


def _owner(ticket: str) -> str:
    return "-".join(ticket.split("-")[2:])


def _is_alive(ticket: Path) -> bool:
    """Return whether the ticket's worker is alive; remove the ticket of a dead one."""
    try:
        if lock_owner(ticket) is not None:
            return True
    except FileNotFoundError:  # just moved to `running`
        return False
    ticket.unlink(missing_ok=True)
    return False
