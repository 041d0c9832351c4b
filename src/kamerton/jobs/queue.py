"""Whose turn it is: so many jobs at once on a machine, each with GPUs of its own, in the order they were queued in.

Everything is a lock file below `<root>/.jobs/<machine>/`: a ticket for each waiting worker, a slot for each running
job. A process that is killed gives its place away by being gone. GPUs are those that no sweep of this user holds.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from hydra_plugins.kamerton._gpus import Gpus, free_gpus, visible_gpus
from kamerton.locks import hold, holder

POLL_S = 0.2


@contextmanager
def turn(root: Path, queued: int, limit: int | None, gpus: int | None) -> Iterator[Gpus]:
    """Wait until fewer than `limit` jobs of `root` run here, and until `gpus` GPUs are free; then be one of them.

    `queued` (nanoseconds) orders those who wait. `limit` None is one for each GPU, or one. `gpus` None is all that are
    visible. What is yielded has the environment that shows the GPUs, and the locks that the job must hold as well.
    """
    visible = len(visible_gpus())
    folder = root / ".jobs" / socket.gethostname()
    with ExitStack() as held:
        with _ticket(folder / "waiting", queued) as ticket:
            slot = _slot(folder, ticket, limit or visible or 1)
            held.enter_context(slot)
            mine = held.enter_context(free_gpus(gpus if gpus is not None and gpus <= visible else None))
        yield dataclasses.replace(mine, locks=(*mine.locks, slot.fileno()))


@contextmanager
def _ticket(folder: Path, queued: int) -> Iterator[Path]:
    """A place in the queue. It is held before it is seen: an unheld one is a dead worker's."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{queued:020d}-{os.getpid()}"
    lock = hold(folder / f".{path.name}")
    assert lock is not None  # nobody else uses this name
    with lock:
        (folder / f".{path.name}").rename(path)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def _slot(folder: Path, ticket: Path, limit: int) -> IO[str]:
    """A free slot, held, as soon as this ticket is the first."""
    while True:
        if _is_first(ticket):
            for number in range(limit):
                slot = hold(folder / f"slot-{number}", patience=0)
                if slot is not None:
                    return slot
        time.sleep(POLL_S)


def _is_first(ticket: Path) -> bool:
    before = [path for path in ticket.parent.iterdir() if not path.name.startswith(".") and path.name < ticket.name]
    alive = [path for path in before if holder(path) is not None]
    for dead in set(before) - set(alive):
        dead.unlink(missing_ok=True)
    return not alive
