"""A free GPU for each job, among all launchers of a user on one machine: a lock file each, held as long as the job."""

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
    """The environment that shows a job its GPUs, and the open locks, which its process must hold as well."""

    environment: dict[str, str]
    locks: tuple[int, ...] = ()


@contextmanager
def free_gpus(count: int | None) -> Iterator[Gpus]:
    """Own `count` GPUs of those that this process sees, waiting until they are free; all of them where it is None.

    A job holds its locks too, so that its GPUs are not free before it has ended, whatever becomes of this process.
    """
    visible = visible_gpus()
    if count is None or not visible:
        yield Gpus({})
        return
    if count > len(visible):
        raise ValueError(f"hydra.launcher.gpus is {count}, and there are {len(visible)}: {', '.join(visible)}")
    while True:
        with ExitStack() as held:
            mine = _take(visible, count, held)
            if len(mine) == count:
                yield Gpus({VISIBLE: ",".join(mine)}, tuple(file.fileno() for file in mine.values()))
                return
        time.sleep(0.5)


def visible_gpus() -> list[str]:
    """The GPUs of `CUDA_VISIBLE_DEVICES`, up to -1 as CUDA reads it; without it those that the driver lists."""
    given = os.environ.get(VISIBLE)
    if given is None:
        return [str(number) for number, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]
    names = [name.strip() for name in given.split(",") if name.strip()]
    return names[: names.index("-1")] if "-1" in names else names


def _take(names: list[str], count: int, held: ExitStack) -> dict[str, IO[str]]:
    """Up to `count` of the GPUs that nobody holds, with their locks; `held` lets them go."""
    import fcntl

    folder = Path(tempfile.gettempdir()) / f"hydra-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    mine: dict[str, IO[str]] = {}
    for name in names:
        file = held.enter_context((folder / f"{name.replace('/', '-')}.lock").open("a"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        mine[name] = file
        if len(mine) == count:
            break
    return mine
