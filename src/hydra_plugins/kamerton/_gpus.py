"""Free GPUs for each job, among all launchers of a user on one machine: a lock file each, held while the job runs."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Gpus:
    """The environment that gives a job its GPUs, and the open locks, which its process must hold as well."""

    environment: dict[str, str]
    locks: tuple[int, ...] = ()


@contextmanager
def free_gpus(count: int | None) -> Iterator[Gpus]:
    """Own `count` of the GPUs that this process sees, waiting until they are free; all of them if it is None.

    The job holds the locks too, so its GPUs stay taken until it has ended, even if this process dies.
    """
    visible = visible_gpus()
    if count is None or not visible:
        yield Gpus({})
        return
    if count > len(visible):
        raise ValueError(f"hydra.launcher.gpus is {count}, and there are {len(visible)}: {', '.join(visible)}")
    while True:
        with ExitStack() as held:
            taken = _take(visible, count, held)
            if len(taken) == count:
                yield Gpus({VISIBLE: ",".join(taken)}, tuple(file.fileno() for file in taken.values()))
                return
        time.sleep(0.5)


def visible_gpus() -> list[str]:
    """Return the GPUs of `CUDA_VISIBLE_DEVICES`, up to -1 as CUDA reads it; without it those that the driver lists."""
    visible = os.environ.get(VISIBLE)
    if visible is None:
        return [str(number) for number, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]
    names = [name.strip() for name in visible.split(",") if name.strip()]
    return names[: names.index("-1")] if "-1" in names else names


def _take(names: list[str], count: int, held: ExitStack) -> dict[str, IO[str]]:
    """Lock up to `count` free GPUs; `held` releases them."""
    import fcntl

    folder = Path(tempfile.gettempdir()) / f"hydra-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    taken: dict[str, IO[str]] = {}
    for name in names:
        file = held.enter_context((folder / f"{name.replace('/', '-')}.lock").open("a"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        taken[name] = file
        if len(taken) == count:
            break
    return taken
