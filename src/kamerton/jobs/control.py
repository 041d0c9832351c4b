"""Stop, pause and resume any run, through signals to its process and its record."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import chdir, suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

from kamerton.config.judging import untyped_faults
from kamerton.config.origin import key_of
from kamerton.config.search import SEARCHPATH, config_dir_of, missing_folders, other_places, split_search
from kamerton.errors import Fault, UserError
from kamerton.files import load_yaml
from kamerton.hosted.control import at_work_elsewhere, end_remote, endpoint_of
from kamerton.jobs.config import compose_job, composing
from kamerton.jobs.store import ACTIVE, CANCEL, WORKER, JobStatus, active_process, mark, read_status, record_of
from kamerton.jobs.worker import start_worker
from kamerton.locks import LockOwner, lock_owner
from kamerton.mask import MASK
from kamerton.run.changes import as_begun, changed_faults, differences, grader_faults
from kamerton.run.directory import ENDED, RunDirectory, read_file, read_mapping, read_values
from kamerton.run.graders import current_graders
from kamerton.run.opening import FINISHED, LOCK, own
from kamerton.run.record import Job, Record

POLL_S = 0.1  # interval between reads of a run's files
GRACE_S = 120.0  # enough for a long step and a checkpoint


async def end_run(path: Path, state: Literal["cancelled", "paused"], grace_s: float = GRACE_S) -> JobStatus:
    """Ask the run's process to save and stop, then record `state`; kill the process after `grace_s` seconds.

    The job of a hosted model is cancelled or paused at its endpoint. A run that has ended keeps its state. Raises
    `UserError` if its process is on another machine, and for a trial or fold, whose sweep or cross-validation would
    count it as failed.
    """
    record = record_of(path)
    if record.state not in ENDED:
        faults = list(_part_faults(path, record, "stop the {parent}: Ctrl-C where it runs"))
        if faults:
            raise UserError(faults)
    if at_work_elsewhere(record):
        endpoint_of(path)  # report a missing key before anything is stopped
    while (process := active_process(path)) is not None and process.pid is None:
        await asyncio.sleep(POLL_S)  # a new worker has not recorded its process id yet
    if process is not None:
        if not process.is_here:
            message = f"run {path.name} is running on {process.host}"
            raise UserError([Fault("job.elsewhere", message, "give the command there", file=str(path))])
        if state == "cancelled" and not at_work_elsewhere(record):
            (path / CANCEL).touch()
        else:
            (path / CANCEL).unlink(missing_ok=True)
        _signal(process, signal.SIGTERM)
        if not await _wait_until_idle(path, grace_s):
            _kill(path)
            await _wait_until_idle(path, GRACE_S)
    among = (*ACTIVE, "paused") if state == "cancelled" else ACTIVE
    if at_work_elsewhere(record_of(path)):
        await asyncio.to_thread(end_remote, path, state)
        among = (*among, "failed")  # the process here was lost, while the remote job continued
    mark(path, state, among=among)
    return read_status(path)


def _signal(process: LockOwner, number: signal.Signals) -> None:
    if process.pid is not None:
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(process.pid, number)


def _kill(path: Path) -> None:
    """Kill the worker with all its children, or the training process if there is no worker."""
    worker = lock_owner(path / WORKER)
    if worker is not None and worker.pid is not None:
        with suppress(ProcessLookupError):  # it has just ended
            os.killpg(worker.pid, signal.SIGKILL)
    elif (training := lock_owner(path / LOCK)) is not None:
        _signal(training, signal.SIGKILL)


async def _wait_until_idle(path: Path, seconds: float) -> bool:
    """Wait until no process works on the run; return False after `seconds`."""
    deadline = time.monotonic() + seconds
    while active_process(path) is not None:
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True


def resume(path: Path, *, trust: bool = False) -> None:
    """Queue a paused, stopped or failed run again: it continues from its last checkpoint, to the same result.

    Everything is checked first, so a run that cannot be resumed is left unchanged. The configuration of a run that
    `kamerton train` started is composed in the current folder, or with `trust` in the folder it was started in. Raises
    `UserError` for a run that is finished, active, or part of another run; whose configuration has changed or cannot
    be composed again; whose overrides held a secret, which is not stored; or (without `trust`) whose overrides or
    folder let other people's code run, because a run directory may come from anywhere.
    """
    lock = own(path)
    try:
        record = record_of(path)
        job = _job_of(path, record, trust)
        faults = list(_resume_faults(path, record, job.search, trust))
        if not (trust or faults):  # because composing it would import the packages it names
            faults += _untrusted(path, job)
        if faults:
            raise UserError(faults)
        _check_unchanged(path, job, record.cwd)
    except BaseException:
        lock.close()
        raise
    run = RunDirectory(path, resuming=True, started=read_values(path), lock=lock)
    start_worker(run, as_job(job.overrides, path), job.cwd, job.limit, job.search)


def _job_of(path: Path, record: Record, trust: bool) -> Job:
    """Return overrides, search path and folder of a run that was started as a job or in a terminal."""
    if record.job is not None:
        search, others = split_search(record.job.search)
        return record.job.model_copy(update={"search": list(search), "overrides": [*others, *record.job.overrides]})
    search, overrides = split_search(_terminal_overrides(path))
    cwd = record.cwd if trust else None
    return Job(overrides=list(overrides), search=list(search), cwd=cwd or os.getcwd())


def _check_unchanged(path: Path, job: Job, started_in: str | None) -> None:
    """Raise the faults that would otherwise stop the job only when it starts: a changed or invalid configuration."""
    if not (path / "config.yaml").exists():  # it never started
        return
    overrides = [*(text for text in job.search if key_of(text) == SEARCHPATH), *as_job(job.overrides, path)]
    try:
        with composing, chdir(job.cwd):
            values = compose_job(overrides, config_dir_of(job.search))
            graders = current_graders(values)
    except UserError as error:
        if started_in is None or Path(started_in) == Path(job.cwd):
            raise
        message = f"the run was started in {started_in}, and its configuration is now composed in {job.cwd}"
        fix = "resume it from there, or give --trust if you trust what is in that folder"
        raise UserError([*error.faults, Fault("job.folder", message, fix, file=str(path), column="cwd")]) from error
    except OSError as error:
        fault = Fault("job.folder", f"cannot change to {job.cwd}: {error.strerror}", "restore that folder", str(path))
        raise UserError([fault]) from error
    recorded = read_mapping(path / "config.yaml", load_yaml)
    values = as_begun(recorded, values)
    changes, begun = differences(recorded, values), record_of(path).graders
    if faults := [*changed_faults(path, recorded, values), *grader_faults(path, begun, graders, changes)]:
        raise UserError(faults)


def _resume_faults(path: Path, record: Record, search: Sequence[str], trust: bool) -> Iterator[Fault]:
    """Yield why a run cannot be resumed: its state, a lost secret, or the sources of its configuration."""
    if record.state in FINISHED:
        yield Fault("run.finished", f"run {path.name} is finished", "start a new one", file=str(path))
    yield from _part_faults(path, record, "resume the {parent} with the command that started it")
    if record.job is None and any(MASK in text for text in _terminal_overrides(path)):
        message = "its overrides contain a secret, which is not stored"
        fix = f"resume with kamerton train … run_id={path.name}; give secrets through the environment: ${{oc.env:NAME}}"
        yield Fault("job.secret", message, fix, file=str(path / "overrides.yaml"))
    for folder in missing_folders(search):
        message = f"it was composed with the files in {folder}, and there is no such folder"
        fix = f"restore that folder, or resume it with kamerton train --config-dir=FOLDER … run_id={path.name}"
        yield Fault("job.config-dir", message, fix, file=str(path), column="--config-dir")
    for place in [] if trust else other_places(search):
        message = f"it was composed with {place}, which imports a package"
        yield Fault("job.trust", message, "if you trust that package, give --trust", file=str(path), column=SEARCHPATH)


def _part_faults(path: Path, record: Record, fix: str) -> Iterator[Fault]:
    parent = "sweep" if record.trial else "cross-validation" if record.fold is not None else None
    if parent is not None:
        message = f"run {path.name} is part of a {parent}"
        yield Fault("job.part", message, fix.format(parent=parent), file=str(path))


def _untrusted(path: Path, job: Job) -> Iterator[Fault]:
    """Yield faults for what only a user may decide to trust, but is now read from the run directory."""
    if Path(job.cwd).resolve() != Path.cwd():
        message = f"its configuration is composed in {job.cwd}, whose files may let other people's code run"
        fix = "if you trust that folder, give --trust, or resume it from there"
        yield Fault("job.trust", message, fix, file=str(path), column="cwd")
    fix = f"if you trust that run, give --trust, or resume it with kamerton train … run_id={path.name}"
    others = []
    for text in map(str, job.overrides):
        key = key_of(text)
        if key.startswith(("hydra", "-")):
            yield _trust_fault(path, key, fix)
        else:
            others.append(text)
    with composing:
        faults = untyped_faults(others, job.search)
    for fault in faults:
        is_trust = fault.code in ("config.trust", "config.target")
        yield _trust_fault(path, fault.column or "", fix) if is_trust else replace(fault, file=str(path))


def _trust_fault(path: Path, key: str, fix: str) -> Fault:
    message = f"its overrides contain {key}, which lets other people's code run, or sends them a secret"
    return Fault("job.trust", message, fix, file=str(path), column=key)


def _terminal_overrides(path: Path) -> list[str]:
    """Return the recorded overrides of a run that was started in a terminal, without a worker."""
    file = path / "overrides.yaml"
    overrides = read_file(file, load_yaml) if file.exists() else []
    return [str(text) for text in overrides] if isinstance(overrides, list) else []


_SET_BY_JOB = ("run_id", "resume", "paths.outputs", "callbacks.progress_bar", "callbacks.model_summary")


def as_job(overrides: Sequence[str], path: Path) -> list[str]:
    """Return overrides for the job at `path`: its own run directory, and no terminal output."""
    from hydra_plugins.kamerton._overrides import override

    kept = [text for text in overrides if key_of(text) not in _SET_BY_JOB]
    own = [override("run_id", path.name), override("paths.outputs", str(path.parent.parent))]
    return [*kept, *own, "callbacks.progress_bar=null", "callbacks.model_summary=null"]
