"""The process of a job: waits for its turn, trains in a child of its own, and records how that ended.

    python -m kamerton.jobs.worker RUN_DIRECTORY LOCK

It belongs to nobody's terminal and outlives whoever started it. Training is a child, so that somebody is left to say
why when the system kills it, most often for its memory. SIGTERM is passed on to it: the run saves and is paused.
Imports nothing heavy.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

from hydra_plugins.kamerton._gpus import Gpus
from kamerton.errors import Fault, UserError
from kamerton.files import load_yaml
from kamerton.jobs.queue import turn
from kamerton.jobs.store import ACTIVE, CANCEL, LOG, WORKER, broken, killed, mark, record_of
from kamerton.locks import acquire, name_owner
from kamerton.run.directory import RunDirectory
from kamerton.run.opening import LOCK
from kamerton.shell import command_line

_children: list[subprocess.Popen[bytes]] = []  # kept to be waited for, or they would stay as zombies


def start_worker(
    run: RunDirectory, overrides: Sequence[str], cwd: str, limit: int | None, search: Sequence[str] = ()
) -> None:
    """Queue a run that this process owns, let go of it, and start its worker.

    `overrides` are those of `kamerton train`, to be read in the folder `cwd`, and `search` the words that say where the
    user's own configuration files are; `limit` is how many jobs may run at once (None: one for each GPU, or one).
    Raises `UserError` where the run has a worker already.
    """
    lock = acquire(run.path / WORKER, named=False)
    if lock is None:
        run.release()
        fix = f"wait for it, or stop it: {command_line('runs', 'stop', run.path)}"
        raise UserError([Fault("run.running", f"run {run.run_id} has a worker already", fix, file=str(run.path))])
    with lock, (run.path / LOG).open("ab") as log:
        job = {"overrides": list(overrides), "search": list(search), "cwd": cwd, "limit": limit}
        (run.path / CANCEL).unlink(missing_ok=True)
        run.set_state("queued", error=None, job={**job, "queued": time.time_ns()})
        run.release()
        handle = lock.fileno()  # the child's from its first moment: at no time does the run look abandoned
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "kamerton.jobs.worker", str(run.path), str(handle)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[handle],
            start_new_session=True,
            env=_environment(),
        )
    _children[:] = [child for child in _children if child.poll() is None] + [process]


def _environment() -> dict[str, str]:
    """This process's, less what would make the job a part of a run of its own."""
    return {key: value for key, value in os.environ.items() if key not in ("KAMERTON_RUN_DIR", "LOCAL_RANK")}


class Stopped(BaseException):
    """A stop while the job waits for its turn."""


class Stopper:
    """SIGTERM and SIGINT: passed on to the training; without one they end the waiting for it."""

    def __init__(self) -> None:
        self.asked = False
        self._waiting = True
        self._child: subprocess.Popen[bytes] | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.asked = True
        if self._child is not None:
            self._child.terminate()
        elif self._waiting:
            raise Stopped

    def run(self, command: Sequence[str], **options: Any) -> int:
        """The exit code of a command; negative is the signal that ended it."""
        self._waiting = False
        self._child = subprocess.Popen(command, **options)
        if self.asked:  # in between
            self._child.terminate()
        return self._child.wait()


def work(path: Path) -> int:
    """Train the run at `path` when its turn comes; returns the exit code of the training."""
    stopper = Stopper()
    before = (path / LOG).stat().st_size if (path / LOG).exists() else 0
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stopper)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        code = _train(path, stopper)
    except Stopped:
        code = 130
    if stopper.asked and (path / CANCEL).exists():
        mark(path, "cancelled", among=(*ACTIVE, "paused"))
    elif stopper.asked:
        mark(path, "paused")
    elif code < 0:
        mark(path, "failed", error=killed(signal.Signals(-code).name))
    else:
        mark(path, "failed", error=broken(code, _first_fault(path / LOG, before)))
    return code


def _train(path: Path, stopper: Stopper) -> int:
    record = record_of(path)
    job = record["job"]
    config = load_yaml((path / "config.yaml").read_text(encoding="utf-8"))
    owner = path.parent.name if "request" in record else ""  # a tenant of the server
    with _turn(path, job, config, owner) as mine:
        _say_begun(path)
        environment = {**os.environ, **mine.environment}
        options: dict[str, Any] = {"cwd": job["cwd"], "env": environment, "pass_fds": mine.locks}
        return stopper.run(command(job), stdin=subprocess.DEVNULL, **options)


def _say_begun(path: Path) -> None:
    """It waits no longer: what is checked first are its data."""
    lock = acquire(path / LOCK)
    if lock is not None:
        with lock:
            RunDirectory(path, resuming=True, started=record_of(path)).set_state("validating_files")


def _turn(path: Path, job: Mapping[str, Any], config: Mapping[str, Any], owner: str) -> AbstractContextManager[Gpus]:
    """A place on this machine; what is trained elsewhere needs none."""
    if (config.get("model") or {}).get("provider"):
        return nullcontext(Gpus({}))
    return turn(path.parent.parent, job["queued"], job["limit"], _gpus(config), owner)


def _gpus(config: Mapping[str, Any]) -> int | None:
    """How many GPUs a run's configuration asks for; None where it takes what is there."""
    trainer = config.get("trainer") or {}
    devices = trainer.get("devices", 1)
    return devices if isinstance(devices, int) and devices > 0 and trainer.get("accelerator") != "cpu" else None


def command(job: Mapping[str, Any]) -> list[str]:
    """What trains the run of a job; -P: no module is taken from the folder that it is read in."""
    return [sys.executable, "-P", "-m", "kamerton", "train", *job.get("search", ()), *job["overrides"]]


def _first_fault(log: Path, start: int) -> str:
    """The first fault that was printed from byte `start` on, on one line; what follows may be a consequence of it."""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    return next((line for line in lines if line.startswith("error: ")), "").removeprefix("error: ")


def main(arguments: Sequence[str]) -> int:
    """Work on the run directory that is named, holding the lock whose open file is handed on."""
    path, handle = arguments
    lock = os.fdopen(int(handle), "a", encoding="utf-8")
    os.set_inheritable(lock.fileno(), False)  # the training's life is not this process's
    name_owner(lock, os.getpid())
    return work(Path(path))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
