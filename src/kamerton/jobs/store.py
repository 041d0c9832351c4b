"""Read the state of jobs from their run directories, and detect runs whose process is gone.

Every run in `<root>/<name>/<run_id>/` is a job, including those that `kamerton train` started.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kamerton.errors import Fault, UserError
from kamerton.jobs.locate import run_directories
from kamerton.locks import LockOwner, acquire, last_owner, lock_owner
from kamerton.run.directory import ENDED, RunDirectory, read_record, read_values
from kamerton.run.opening import LOCK
from kamerton.run.record import Failure, Record, State
from kamerton.shell import command_line

WORKER = ".worker"  # lock of the process that queues a job and watches its training
CANCEL = ".cancel"  # marks a cancellation, which the worker completes even if the caller is killed
LOG = "log.txt"
ACTIVE = ("queued", "validating_files", "running")  # states with a process
UNREADABLE = "unreadable"  # state shown in lists if a run's files cannot be read


@dataclass(frozen=True, slots=True)
class JobStatus:
    """The state of a job at one moment; None or empty if not known yet.

    Args:
        id: the run's id.
        path: its directory.
        state: `queued`, `validating_files`, `running`, `paused`, `succeeded`, `failed` or `cancelled`; paused,
            failed and cancelled jobs can be resumed.
        epoch, step, steps: the position; `steps` is the total of optimizer steps.
        eta_s: seconds of training that are left.
        examples: `processed` and `total`.
        tokens, tokens_per_s: trained tokens, and their rate.
        metrics: the latest by split (`train`, `validation`, `best`, `test`, `base`).
        model: the name of the model.
        objective: what is learnt: `sft`, `dpo`, …
        created, started, finished, heartbeat: times in ISO 8601, UTC.
        error: `code`, `message` and `param` of a failed job.
        ended: what ended the training: `reason`, `step`, `of`, `detail`, `values`.

    Example:
        >>> import asyncio
        >>> from kamerton import FineTuningManager
        >>> status = asyncio.run(FineTuningManager("outputs").monitor_progress("trec/ID"))
        >>> status.state, status.progress, status.is_active
        ('succeeded', 1.0, False)
    """

    id: str
    path: Path
    state: str
    epoch: float | None = None
    step: int | None = None
    steps: int | None = None
    eta_s: float | None = None
    examples: Mapping[str, int] = field(default_factory=dict)
    tokens: int | None = None
    tokens_per_s: float | None = None
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    model: str | None = None
    objective: str | None = None
    created: str | None = None
    started: str | None = None
    finished: str | None = None
    heartbeat: str | None = None
    error: Mapping[str, Any] | None = None
    ended: Mapping[str, Any] | None = None

    @property
    def is_active(self) -> bool:
        """Whether it is running or queued."""
        return self.state in ACTIVE

    @property
    def is_finished(self) -> bool:
        """Whether it succeeded, failed or was cancelled."""
        return self.state in ENDED

    @property
    def progress(self) -> float:
        """The fraction of completed optimizer steps, from 0 to 1."""
        return (self.step or 0) / self.steps if self.steps else 0.0


def read_status(path: Path) -> JobStatus:
    """Read the run directory at `path`, marking a lost run as failed. Raises `UserError` if there is no run."""
    mark_if_lost(path)
    return _status_of(path)


def _status_of(path: Path) -> JobStatus:
    """Return the status of a run without writing to its directory; a run whose process is gone is shown as failed."""
    record = record_of(path)
    lost = _lost_error(path, record)
    if lost is not None and _activity(record_of(path)) == _activity(record):  # not resumed or ended in between
        record = record.model_copy(update={"state": "failed", "error": Failure(**lost)})
    progress, times = record.progress, record.times
    return JobStatus(
        id=path.name,
        path=path,
        state=record.state or "queued",
        epoch=progress.epoch,
        step=progress.step,
        steps=progress.steps,
        eta_s=progress.eta_s,
        examples={str(name): count for name, count in progress.examples.items()},
        tokens=progress.tokens,
        tokens_per_s=record.throughput.tokens_per_s,
        metrics=record.metrics,
        model=record.model.name,
        objective=record.objective,
        created=times.created,
        started=times.started,
        finished=times.finished,
        heartbeat=record.heartbeat,
        error=None if record.error is None else record.error.model_dump(),
        ended=None if record.ended is None else record.ended.model_dump(),
    )


def record_of(path: Path) -> Record:
    """Read `run.json`. Raises `UserError` if it is missing or damaged."""
    record = read_record(path)
    if record is None:
        fix = f"name a run directory, or a run's id: {command_line('runs', '--outputs', path.parent.parent)}"
        raise UserError([Fault("job.unknown", "there is no run", fix, file=str(path))])
    return record


def list_jobs(root: Path) -> list[JobStatus]:
    """Return every run below a folder of outputs, newest first; one whose files cannot be read is `unreadable`.

    Writes nothing; a run whose process is gone is listed as failed.
    """
    jobs = []
    for path in run_directories(root):
        try:
            jobs.append(_status_of(path))
        except UserError as error:
            fault = error.faults[0]
            jobs.append(JobStatus(path.name, path, UNREADABLE, error={"code": fault.code, "message": fault.message}))
    return sorted(jobs, key=lambda job: (job.created or "", job.id), reverse=True)


def active_process(path: Path) -> LockOwner | None:
    """Return the worker of a run, else the process that trains it, else None."""
    return lock_owner(path / WORKER) or lock_owner(path / LOCK)


def _activity(record: Record) -> tuple[Any, ...]:
    """Return the fields that change whenever a process resumes or ends a run."""
    return record.state, record.heartbeat, record.pid, record.job


def mark_if_lost(path: Path) -> None:
    """Mark a run as failed if its process is gone (for example killed), unless its directory cannot be written."""
    record = read_record(path)
    if record is not None and (error := _lost_error(path, record)) is not None:
        with suppress(OSError):  # another user's folder, or a full disk
            mark(path, "failed", error=error)


def _lost_error(path: Path, record: Record) -> dict[str, Any] | None:
    """Return the error of a run that is recorded as active, but whose process is gone; None for any other run."""
    if record.state not in (*ACTIVE, None):
        return None
    try:
        last = last_owner(path / LOCK) if active_process(path) is None else None
    except OSError as error:
        message = f"cannot tell whether the run is active: {error.filename}: {error.strerror}"
        raise UserError([Fault("run.damaged", message, "make the file readable", file=str(path))]) from error
    if last is None or not last.is_here:  # locks of another machine may not be visible here
        return None
    message = f"its process ({last.pid or record.pid}) ended unexpectedly: it was killed, or the machine"
    return _error("job.lost", f"{message} went down; it can be resumed")


def killed_error(signal_name: str) -> dict[str, Any]:
    """Return the error of a run whose training process was killed by a signal."""
    why = ": most likely it ran out of memory" if signal_name == "SIGKILL" else ""
    return _error("job.killed", f"the training process was killed by {signal_name}{why}; it can be resumed")


def exit_error(code: int, printed: str) -> dict[str, Any]:
    """Return the error of a run whose training process exited before recording why; `printed` is its first error."""
    return _error("job.ended", f"the training process exited with code {code}: {printed or f'see {LOG}'}")


def _error(code: str, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "param": None}


def mark(path: Path, state: State, *, among: tuple[str, ...] = ACTIVE, error: Mapping[str, Any] | None = None) -> bool:
    """Set the state of an inactive run, if its state is one of `among`; return whether it was set."""
    lock = acquire(path / LOCK)
    if lock is None:
        return False
    with lock:
        run = RunDirectory(path, resuming=True, started=read_values(path))
        if run.record.state not in among:
            return False
        run.set_state(state, **({"error": dict(error)} if error else {}))
        if error:
            run.event(
                "error", "failed", f"{error['code']}: {error['message']}", advice=command_line("runs", "resume", path)
            )
        else:
            run.event("info", state, f"the run is {state}")
    return True
