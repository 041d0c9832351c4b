"""What is known of jobs: their run directories, read. A run whose process is gone is found out here.

Every run below `<root>/<name>/<run_id>/` is a job, also one that `kamerton train` began.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kamerton.errors import Fault, UserError
from kamerton.locks import LockOwner, acquire, last_owner, lock_owner
from kamerton.run.directory import ENDED, RunDirectory, read_record
from kamerton.run.opening import LOCK
from kamerton.run.record import State
from kamerton.shell import command_line
from kamerton.words import did_you_mean

WORKER = ".worker"  # the lock of the process that waits for a job's turn and watches its training
CANCEL = ".cancel"  # beside it: the job is to be cancelled, though whoever asked for that may not live to see it
LOG = "log.txt"
ACTIVE = ("queued", "validating_files", "running")  # somebody must be at work
UNREADABLE = "unreadable"  # in a list, the state of a run whose files cannot be read


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job at one moment. `state` is that of its run directory; a paused or failed job can be resumed.

    `step` of `steps` optimizer steps are done, `examples` is `{processed, total}`, `eta_s` the seconds of training
    that are left, `metrics` the latest by split (`train`, `validation`, `best`, `test`, `base`). `error` is `{code,
    message, param}`, `ended` is by what the training ended: `{reason, step, of, detail, values}`. Times are ISO 8601 in
    UTC. What is not known yet is None, or empty.
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
    created: str | None = None
    started: str | None = None
    finished: str | None = None
    heartbeat: str | None = None
    error: Mapping[str, Any] | None = None
    ended: Mapping[str, Any] | None = None

    @property
    def is_active(self) -> bool:
        """Whether a process is at work on it, or waits for its turn."""
        return self.state in ACTIVE

    @property
    def is_finished(self) -> bool:
        """Whether it ended, well or not."""
        return self.state in ENDED

    @property
    def progress(self) -> float:
        """The share of the optimizer steps that are done, from 0 to 1."""
        return (self.step or 0) / self.steps if self.steps else 0.0


def read_status(path: Path) -> JobStatus:
    """What the run directory at `path` says; raises `UserError` where there is no run."""
    settle(path)
    return _seen(path)


def _seen(path: Path) -> JobStatus:
    """What a run directory says, written to by nobody here: a run whose process is gone is shown as failed."""
    record = record_of(path)
    lost = _lost(path, record)
    if lost is not None and _work(record_of(path)) == _work(record):  # nobody took it up or ended it in between
        record = {**record, "state": "failed", "error": lost}
    progress, times = record.get("progress") or {}, record.get("times") or {}
    return JobStatus(
        id=path.name,
        path=path,
        state=record.get("state") or "queued",
        epoch=progress.get("epoch"),
        step=progress.get("step"),
        steps=progress.get("steps"),
        eta_s=progress.get("eta_s"),
        examples=progress.get("examples") or {},
        tokens=progress.get("tokens"),
        tokens_per_s=(record.get("throughput") or {}).get("tokens_per_s"),
        metrics=record.get("metrics") or {},
        model=(record.get("model") or {}).get("name"),
        created=times.get("created"),
        started=times.get("started"),
        finished=times.get("finished"),
        heartbeat=record.get("heartbeat"),
        error=record.get("error"),
        ended=record.get("ended"),
    )


def record_of(path: Path) -> dict[str, Any]:
    """`run.json`; raises `UserError` where there is none or it is damaged."""
    record = read_record(path)
    if record is None:
        fix = f"name a run directory, or a run's id: {command_line('runs', '--outputs', path.parent.parent)}"
        raise UserError([Fault("job.unknown", "there is no run", fix, file=str(path))])
    return record


def find(root: Path, name: str) -> Path:
    """The run directory of a job: by its id, `experiment/id`, or its path. Raises `UserError` for none or several."""
    if os.path.lexists(Path(name) / "run.json"):
        return Path(name).absolute()
    runs = run_directories(root) if is_name(name) else []
    found = [path for path in runs if name in (path.name, f"{path.parent.name}/{path.name}")]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(sorted(f"{path.parent.name}/{path.name}" for path in found))
        fault = Fault("job.several", f"several runs are called {name!r}: {names}", "give one of these names")
    else:
        fix = did_you_mean(name, [path.name for path in runs])
        fault = Fault("job.unknown", f"there is no run {name!r} in {root}", fix)
    raise UserError([fault])


def is_name(text: str) -> bool:
    """Whether a text can be a job's id or `experiment/id`: nothing that leads elsewhere."""
    parts = text.split("/")
    return len(parts) <= 2 and all(part and not part.startswith(".") and part == glob.escape(part) for part in parts)


def run_directories(root: Path) -> list[Path]:
    """Every run directory below a folder of outputs; with them a folder of runs that may not be looked into.

    Raises `UserError` where `root` itself may not.
    """
    try:
        homes = _folders(root.absolute())
    except OSError as error:
        fix = "give another folder: --outputs DIR"
        raise UserError([Fault("job.outputs", f"cannot look into {root}: {error.strerror}", fix)]) from error
    found = []
    for home in homes:
        try:
            found += [path for path in _folders(home) if _has_record(path)]
        except OSError:
            found.append(home)
    return found


def _folders(folder: Path) -> list[Path]:
    """The folders in one, but for hidden ones; none where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            return [folder / each.name for each in entries if not each.name.startswith(".") and each.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _has_record(path: Path) -> bool:
    try:
        os.lstat(path / "run.json")
    except FileNotFoundError:
        return False
    except OSError:  # no right to look: reading it reports why
        return True
    return True


def list_jobs(root: Path) -> list[JobStatus]:
    """Every run below a folder of outputs, the newest first; one whose files cannot be read is `unreadable`.

    Writes nothing, and says of a run whose process is gone that it failed.
    """
    return sorted(map(_status, run_directories(root)), key=lambda job: (job.created or "", job.id), reverse=True)


def _status(path: Path) -> JobStatus:
    try:
        return _seen(path)
    except UserError as error:
        fault = error.faults[0]
        return JobStatus(path.name, path, UNREADABLE, error={"code": fault.code, "message": fault.message})


def owner(path: Path) -> LockOwner | None:
    """The process to speak to about a run: its worker, else the one that trains it; None where nobody is at work."""
    return lock_owner(path / WORKER) or lock_owner(path / LOCK)


def _work(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """What every process changes that takes a run up or ends it."""
    return tuple(record.get(key) for key in ("state", "heartbeat", "pid", "job"))


def settle(path: Path) -> None:
    """Mark a run failed whose process ended without a word, such as one that was killed, if that can be written."""
    record = read_record(path)
    if record is not None and (error := _lost(path, record)) is not None:
        with suppress(OSError):  # another user's folder, or a full disk
            mark(path, "failed", error=error)


def _lost(path: Path, record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The error of a run whose record has it at work and whose process is gone; None for every other one."""
    if record.get("state") not in (*ACTIVE, None):
        return None
    try:
        last = last_owner(path / LOCK) if owner(path) is None else None
    except OSError as error:
        message = f"cannot tell whether it is at work: {error.filename}: {error.strerror}"
        raise UserError([Fault("run.damaged", message, "let the file be read", file=str(path))]) from error
    if last is None or not last.is_here:  # of another machine's processes the locks may say nothing
        return None
    message = f"its process ({last.pid or record.get('pid')}) ended without a word: it was killed, or the machine"
    return _error("job.lost", f"{message} went down; it can be resumed")


def killed(signal_name: str) -> dict[str, Any]:
    """The error of a run whose training process was ended by a signal."""
    why = ": most likely it ran out of memory" if signal_name == "SIGKILL" else ""
    return _error("job.killed", f"the training process was killed by {signal_name}{why}; it can be resumed")


def broken(code: int, said: str) -> dict[str, Any]:
    """The error of a run whose training process ended before it could record why."""
    return _error("job.ended", f"the training process ended with exit code {code}: {said or f'see {LOG}'}")


def _error(code: str, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "param": None}


def mark(path: Path, state: State, *, among: tuple[str, ...] = ACTIVE, error: Mapping[str, Any] | None = None) -> bool:
    """Record that a run nobody works on is in `state` now, if it is in one of `among`; whether that was done."""
    lock = acquire(path / LOCK)
    if lock is None:
        return False
    with lock:
        record = read_record(path) or {}
        if record.get("state") not in among:
            return False
        run = RunDirectory(path, resuming=True, started=record)
        run.set_state(state, **({"error": dict(error)} if error else {}))
        if error:
            run.event(
                "error", "failed", f"{error['code']}: {error['message']}", advice=command_line("runs", "resume", path)
            )
        else:
            run.event("info", state, f"the run is {state}")
    return True
