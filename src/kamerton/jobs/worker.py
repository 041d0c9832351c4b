"""Worker process of a job: waits in the queue, trains in a child process, and records how training ended.

    python -m kamerton.jobs.worker RUN_DIRECTORY LOCK

It has no terminal and outlives its caller. Training runs in a child process, so that the worker can record the reason
if the system kills it, most often for its memory. SIGTERM is forwarded: the run saves a checkpoint and is paused. This
module imports nothing heavy.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

from hydra_plugins.kamerton._gpus import Gpus
from kamerton.errors import Fault, UserError
from kamerton.files import load_yaml
from kamerton.jobs.queue import queue_slot
from kamerton.jobs.store import ACTIVE, CANCEL, LOG, WORKER, exit_error, killed_error, mark, record_of
from kamerton.locks import acquire, name_owner
from kamerton.run.directory import RunDirectory, read_values
from kamerton.run.opening import LOCK
from kamerton.run.record import Job
from kamerton.shell import command_line

_children: list[subprocess.Popen[bytes]] = []  # kept so that they can be reaped


def start_worker(
    run: RunDirectory, overrides: Sequence[str], cwd: str, limit: int | None, search: Sequence[str] = ()
) -> None:
    """Queue a run that this process owns, release it, and start its worker.

    `overrides` are those of `kamerton train`, composed in the folder `cwd`, and `search` the arguments that locate the
    user's configuration files; `limit` is the number of jobs that may run at once (None: one per GPU, or one). Raises
    `UserError` if the run already has a worker.
    """
    lock = acquire(run.path / WORKER, named=False)
    if lock is None:
        run.release()
        fix = f"wait for it, or stop it: {command_line('runs', 'stop', run.path)}"
        raise UserError([Fault("run.running", f"run {run.run_id} already has a worker", fix, file=str(run.path))])
    with lock, (run.path / LOG).open("ab") as log:
        job = {"overrides": list(overrides), "search": list(search), "cwd": cwd, "limit": limit}
        (run.path / CANCEL).unlink(missing_ok=True)
        run.set_state("queued", error=None, job={**job, "queued": time.time_ns()})
        run.release()
        handle = lock.fileno()  # inherited by the child, so that the run never appears abandoned
        # Without the variables that would make the job a part of a surrounding run.
        environment = {key: value for key, value in os.environ.items() if key not in ("KAMERTON_RUN_DIR", "LOCAL_RANK")}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "kamerton.jobs.worker", str(run.path), str(handle)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[handle],
            start_new_session=True,
            env=environment,
        )
    _children[:] = [child for child in _children if child.poll() is None] + [process]


class Stopped(BaseException):
    """Raised by a stop signal while the job is queued."""


class Stopper:
    """Handler of SIGTERM and SIGINT: forwards them to the training process, or raises `Stopped` before it starts."""

    def __init__(self) -> None:
        self.requested = False
        self._waiting = True
        self._child: subprocess.Popen[bytes] | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.requested = True
        if self._child is not None:
            self._child.terminate()
        elif self._waiting:
            raise Stopped

    def run(self, command: Sequence[str], **options: Any) -> int:
        """Run a command and return its exit code; a negative one is the signal that ended it."""
        self._waiting = False
        self._child = subprocess.Popen(command, **options)
        if self.requested:  # since the signal arrived before the process was stored
            self._child.terminate()
        return self._child.wait()


def work(path: Path) -> int:
    """Wait in the queue, train the run at `path`, record its end, and return the exit code of training."""
    stopper = Stopper()
    log_start = (path / LOG).stat().st_size if (path / LOG).exists() else 0
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stopper)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        code = _train(path, stopper)
    except Stopped:
        code = 130
    if stopper.requested and (path / CANCEL).exists():
        mark(path, "cancelled", among=(*ACTIVE, "paused"))
    elif stopper.requested:
        mark(path, "paused")
    elif code < 0:
        mark(path, "failed", error=killed_error(signal.Signals(-code).name))
    else:
        mark(path, "failed", error=exit_error(code, first_fault(path / LOG, log_start)))
    return code


def _train(path: Path, stopper: Stopper) -> int:
    record = record_of(path)
    job = record.job
    assert job is not None  # the process that started this one wrote it
    config = load_yaml((path / "config.yaml").read_text(encoding="utf-8"))
    owner = path.parent.name if record.request is not None else ""  # a tenant of the server
    slot: AbstractContextManager[Gpus] = nullcontext(Gpus({}))  # a hosted model needs no resources here
    if not (config.get("model") or {}).get("provider"):
        trainer = config.get("trainer") or {}
        devices = trainer.get("devices", 1)
        has_number = isinstance(devices, int) and devices > 0 and trainer.get("accelerator") != "cpu"
        gpus = devices if has_number else None  # None: the available ones
        slot = queue_slot(path.parent.parent, job.queued or 0, job.limit, gpus, owner)
    with slot as resources:
        lock = acquire(path / LOCK)
        if lock is not None:
            with lock:
                RunDirectory(path, resuming=True, started=read_values(path)).set_state("validating_files")
        environment = {**os.environ, **resources.environment}
        options: dict[str, Any] = {"cwd": job.cwd, "env": environment, "pass_fds": resources.locks}
        return stopper.run(command(job), stdin=subprocess.DEVNULL, **options)


def command(job: Job) -> list[str]:
    """Return the training command of a job; `-P` keeps Python from importing modules of the working directory."""
    return [sys.executable, "-P", "-m", "kamerton", "train", *job.search, *job.overrides]


def first_fault(log: Path, start: int) -> str:
    """Return the first error in the log from byte `start` on, on one line; later ones may be consequences."""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    return next((line for line in lines if line.startswith("error: ")), "").removeprefix("error: ")


def main(arguments: Sequence[str]) -> int:
    """Work on the given run directory, holding the lock whose open file descriptor is inherited."""
    path, handle = arguments
    lock = os.fdopen(int(handle), "a", encoding="utf-8")
    os.set_inheritable(lock.fileno(), False)  # the training process must not keep it
    name_owner(lock, os.getpid())
    return work(Path(path))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
