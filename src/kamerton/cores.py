"""Processor cores: how many this process may use, and how the threads of its tensor operations wait for each other.

A thread of OpenMP that has finished its part of an operation keeps its core busy until the others have finished too.
On an idle machine that is the fastest way to wait. If other processes use the cores, it takes them from the very
threads it waits for, and an operation can take several times as long. `wait_politely` therefore lets threads sleep
while, and only while, cores are short. It changes no result: the number of threads stays.
"""

from __future__ import annotations

import math
import os
import threading
from contextlib import suppress
from pathlib import Path
from time import monotonic

PERIOD_S = 0.5
SHORT, ENOUGH = 0.10, 0.05  # seconds that threads wait for a core, per second
_FIXED_BY = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_watched: int | None = None  # the process whose threads are watched, since a forked one does not inherit the watcher


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Return how many cores this process may use: of its affinity, limited by the quota of its control groups.

    A container's limit of 1.5 processors counts as 2. Raises nothing: what cannot be read limits nothing.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _control_groups(cgroup, own) if (quota := _quota(folder)) is not None]
    return max(1, min([affinity, *(math.ceil(quota) for quota in quotas)]))


def set_threads(threads: int | None) -> None:
    """Set the number of threads of tensor operations, and let them share the cores (`wait_politely`).

    `threads` None: torch's own number (`OMP_NUM_THREADS`, or one for each core), but not more than `usable_cores`.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    elif "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > usable_cores():
        torch.set_num_threads(usable_cores())
    wait_politely()


def waiting() -> str:
    """Return how threads wait, for `run.json`: `adaptive`, `default` of OpenMP, or the variable that decides it."""
    fixed = [f"{name}={os.environ[name]}" for name in _FIXED_BY if name in os.environ]
    if fixed:
        return " ".join(fixed)
    return "adaptive" if _watched == os.getpid() else "default"


def wait_politely() -> None:
    """Watch this process until it ends: its threads wait for each other asleep while other processes need the cores.

    `OMP_WAIT_POLICY` and `GOMP_SPINCOUNT` win. Without Linux's scheduler statistics or GNU's OpenMP (`libgomp`),
    threads wait as their library decides.
    """
    global _watched
    if _watched == os.getpid() or any(name in os.environ for name in _FIXED_BY) or not _is_supported():
        return
    _watched = os.getpid()
    threading.Thread(target=_watch, args=(threading.Event(),), name="kamerton-cores", daemon=True).start()


def core_wait() -> float:
    """Return the seconds that the threads of this process were ready to run and waited for a core, added up."""
    total = 0
    for file in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError):  # a thread that has just ended
            total += int(file.read_text().split()[1])
    return total / 1e9


def _watch(stop: threading.Event) -> None:
    release: threading.Event | None = None
    waited, at = core_wait(), monotonic()
    while not stop.wait(PERIOD_S):
        before, start = waited, at
        waited, at = core_wait(), monotonic()
        share = (waited - before) / (at - start)
        if release is None and share > SHORT:
            release = _sleep_when_idle()
        elif release is not None and share < ENOUGH:
            release.set()
            release = None


def _sleep_when_idle() -> threading.Event:
    """Make idle threads of OpenMP sleep at once, until the returned event is set.

    libgomp decides at every wait: with more threads than cores it spins 100 times, otherwise 300,000 times. So it is
    given idle teams of threads, which sleep as well (`gomp_managed_threads` in its `config/linux/wait.h`).
    """
    import torch

    release = threading.Event()
    cores, threads = usable_cores(), torch.get_num_threads()

    def hold() -> None:
        torch.ones(2**20).add_(1)  # large enough for every thread, so the team exists
        release.wait()

    for _ in range(cores // threads if threads > 1 else 0):
        threading.Thread(target=hold, name="kamerton-team", daemon=True).start()
    return release


def _is_supported() -> bool:
    try:
        return Path("/proc/self/schedstat").exists() and "libgomp" in Path("/proc/self/maps").read_text()
    except OSError:
        return False


def _control_groups(root: Path, own: Path) -> list[Path]:
    """Return the folders of this process's control groups with a limit for processors, of versions 1 and 2."""
    folders = [root, root / "cpu"]
    with suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            base = root / "cpu" if controllers else root
            path = base / name.lstrip("/")
            folders += [path, *(parent for parent in path.parents if parent.is_relative_to(base))]
    return folders


def _quota(folder: Path) -> float | None:
    """Return the cores that a control group may use; None without a limit."""
    with suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        return int(quota) / int(period)  # "max 100000" is not a number
    with suppress(OSError, ValueError):
        quota_us = int((folder / "cpu.cfs_quota_us").read_text())
        return quota_us / int((folder / "cpu.cfs_period_us").read_text()) if quota_us > 0 else None
    return None
