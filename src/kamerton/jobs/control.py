"""Stopping, pausing and resuming a run, whoever started it. All of it through its process's signals and its record."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from kamerton.config.judging import untyped_faults
from kamerton.config.origin import key_of
from kamerton.config.search import SEARCHPATH, config_dir_of, missing_folders, other_places, split_search
from kamerton.errors import Fault, UserError
from kamerton.files import load_yaml
from kamerton.hosted.control import at_work_elsewhere, end_remote, endpoint_of
from kamerton.jobs.config import checked, composing
from kamerton.jobs.store import ACTIVE, CANCEL, WORKER, JobStatus, mark, owner, read_status, record_of
from kamerton.jobs.worker import start_worker
from kamerton.locks import LockOwner, lock_owner
from kamerton.mask import MASK
from kamerton.run.changes import as_begun, changed_faults, differences
from kamerton.run.directory import ENDED, RunDirectory, read_file, read_mapping
from kamerton.run.opening import FINISHED, LOCK, own

POLL_S = 0.1  # how often a run's files are looked at
GRACE_S = 120.0  # a step may take long, and a checkpoint must be written


async def end(path: Path, state: Literal["cancelled", "paused"], grace_s: float = GRACE_S) -> JobStatus:
    """Ask the run's process to save and stop, then record `state`; after `grace_s` seconds it is killed.

    The job of a hosted model is cancelled or paused at its endpoint. A run that has ended keeps its state. Raises
    `UserError` where its process is on another machine, and for a part of a sweep or cross-validation, which would
    take its end for a failure.
    """
    record = record_of(path)
    if record.get("state") not in ENDED:
        faults = list(_part(path, record, "stop the {whole}: Ctrl-C where it runs"))
        if faults:
            raise UserError(faults)
    if at_work_elsewhere(record):
        endpoint_of(path)  # a missing key is said before anything ends
    process = await _owner(path)
    if process is not None:
        _must_be_here(path, process)
        if state == "cancelled" and not at_work_elsewhere(record):
            (path / CANCEL).touch()
        else:
            (path / CANCEL).unlink(missing_ok=True)
        _signal(process, signal.SIGTERM)
        if not await _ended(path, grace_s):
            _kill(path)
            await _ended(path, GRACE_S)
    among = (*ACTIVE, "paused") if state == "cancelled" else ACTIVE
    if at_work_elsewhere(record_of(path)):
        await asyncio.to_thread(end_remote, path, state)
        among = (*among, "failed")  # it was lost here, and went on there
    mark(path, state, among=among)
    return read_status(path)


async def _owner(path: Path) -> LockOwner | None:
    """Who works on the run; a worker that has just been started is waited for until it says who it is."""
    while (process := owner(path)) is not None and process.pid is None:
        await asyncio.sleep(POLL_S)
    return process


def _must_be_here(path: Path, process: LockOwner) -> None:
    if not process.is_here:
        message = f"run {path.name} is at work on {process.host}"
        raise UserError([Fault("job.elsewhere", message, "give the command there", file=str(path))])


def _signal(process: LockOwner, number: signal.Signals) -> None:
    if process.pid is not None:
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(process.pid, number)


def _kill(path: Path) -> None:
    """End the worker with all its children, or the process that trains without one."""
    worker = lock_owner(path / WORKER)
    if worker is not None and worker.pid is not None:
        with suppress(ProcessLookupError):  # it has just ended
            os.killpg(worker.pid, signal.SIGKILL)
    elif (training := lock_owner(path / LOCK)) is not None:
        _signal(training, signal.SIGKILL)


async def _ended(path: Path, seconds: float) -> bool:
    """Whether nobody works on the run any more, within so many seconds."""
    end = time.monotonic() + seconds
    while owner(path) is not None:
        if time.monotonic() >= end:
            return False
        await asyncio.sleep(POLL_S)
    return True


def resume(path: Path, *, trust: bool = False) -> None:
    """Queue a run again that was paused, stopped or failed: it goes on from its last checkpoint, to the same result.

    Everything is checked before, so that a run that cannot go on stays as it is. A run that `kamerton train` began is
    read in the current folder, with `trust` in the one it was begun in. Raises `UserError` for a run that is finished
    or at work, that is a part of another one, whose configuration cannot be composed again or has changed, whose
    overrides hold what is not kept, or (without `trust`) whose overrides or folder let code of others run: a run
    directory may come from anywhere.
    """
    lock = own(path)
    try:
        record = record_of(path)
        job = _job(path, record, trust)
        faults = [*_obstacles(path, record), *_search_faults(path, job["search"], trust)]
        if not (trust or faults):  # looking at what it composes would import the packages it names
            faults += _untrusted(path, job)
        if faults:
            raise UserError(faults)
        _check(path, job, record.get("cwd"))
    except BaseException:
        lock.close()
        raise
    run = RunDirectory(path, resuming=True, started=record, lock=lock)
    start_worker(run, as_job(job["overrides"], path), job["cwd"], job.get("limit"), job["search"])


def _job(path: Path, record: Mapping[str, Any], trust: bool) -> dict[str, Any]:
    """What was asked for: as a job, else in a terminal."""
    if record.get("job"):
        search, others = split_search(record["job"].get("search") or [])
        return {**record["job"], "search": search, "overrides": [*others, *record["job"]["overrides"]]}
    search, overrides = split_search(_typed(path))
    cwd = record.get("cwd") if trust else None
    return {"overrides": overrides, "search": search, "cwd": cwd or os.getcwd()}


def _search_faults(path: Path, search: Sequence[str], trust: bool) -> Iterator[Fault]:
    """The user's own configuration files: folders that are gone, and packages, which would be imported."""
    for folder in missing_folders(search):
        message = f"it was composed with the files in {folder}, and there is no such folder"
        fix = f"restore that folder, or go on with kamerton train --config-dir=FOLDER … run_id={path.name}"
        yield Fault("job.config-dir", message, fix, file=str(path), column="--config-dir")
    for place in [] if trust else other_places(search):
        message = f"it was composed with {place}, which imports a package"
        yield Fault("job.trust", message, "if you trust that package, give --trust", file=str(path), column=SEARCHPATH)


def _check(path: Path, job: Mapping[str, Any], begun_in: str | None) -> None:
    """Raise everything that would keep the job from going on: it would be found only when its turn comes."""
    if not (path / "config.yaml").exists():  # it never began
        return
    overrides = [*(text for text in job["search"] if key_of(text) == SEARCHPATH), *as_job(job["overrides"], path)]
    try:
        with composing, chdir(job["cwd"]):
            values = checked(overrides, config_dir_of(job["search"]))
    except UserError as error:
        if begun_in is None or Path(begun_in) == Path(job["cwd"]):
            raise
        message = f"it was begun in {begun_in}, and is read in {job['cwd']} now"
        fix = "resume it from there, or give --trust if you trust what is in that folder"
        raise UserError([*error.faults, Fault("job.folder", message, fix, file=str(path), column="cwd")]) from error
    except OSError as error:
        fault = Fault("job.folder", f"cannot go to {job['cwd']}: {error.strerror}", "restore that folder", str(path))
        raise UserError([fault]) from error
    before = read_mapping(path / "config.yaml", load_yaml)
    if changes := differences(before, as_begun(before, values)):
        raise UserError(changed_faults(path, changes))


def _obstacles(path: Path, record: Mapping[str, Any]) -> Iterator[Fault]:
    if record.get("state") in FINISHED:
        yield Fault("run.finished", f"run {path.name} is finished", "start a new one", file=str(path))
    yield from _part(path, record, "go on with the {whole}: the command that began it")
    if not record.get("job") and any(MASK in text for text in _typed(path)):
        message = "a secret was typed for it, which no file keeps"
        fix = f"go on with kamerton train … run_id={path.name}; give secrets through the environment: ${{oc.env:NAME}}"
        yield Fault("job.secret", message, fix, file=str(path / "overrides.yaml"))


def _part(path: Path, record: Mapping[str, Any], fix: str) -> Iterator[Fault]:
    whole = "sweep" if record.get("trial") else "cross-validation" if "fold" in record else None
    if whole is not None:
        message = f"run {path.name} is a part of a {whole}"
        yield Fault("job.part", message, fix.format(whole=whole), file=str(path))


def _untrusted(path: Path, job: Mapping[str, Any]) -> Iterator[Fault]:
    """What must have been typed by whoever trusts it, and is now in a file alone."""
    if Path(job["cwd"]).resolve() != Path.cwd():
        message = f"it is read in the folder {job['cwd']}, whose files may let other people's code run"
        fix = "if you trust that folder, give --trust, or resume it from there"
        yield Fault("job.trust", message, fix, file=str(path), column="cwd")
    fix = f"if you trust that run, give --trust, or go on with kamerton train … run_id={path.name}"
    others = []
    for text in map(str, job["overrides"]):
        key = key_of(text)
        if key.startswith(("hydra", "-")):
            yield _not_typed(path, key, fix)
        else:
            others.append(text)
    with composing:
        faults = untyped_faults(others, job["search"])
    for fault in faults:
        is_trust = fault.code in ("config.trust", "config.target")
        yield _not_typed(path, fault.column or "", fix) if is_trust else replace(fault, file=str(path))


def _not_typed(path: Path, key: str, fix: str) -> Fault:
    message = f"its overrides hold {key}, which lets other people's code run, or sends them a secret"
    return Fault("job.trust", message, fix, file=str(path), column=key)


def _typed(path: Path) -> list[str]:
    """What was typed for a run that was begun without a worker."""
    file = path / "overrides.yaml"
    found = read_file(file, load_yaml) if file.exists() else []
    return [str(text) for text in found] if isinstance(found, list) else []


_OWN = ("run_id", "resume", "paths.outputs", "callbacks.progress_bar", "callbacks.model_summary")


def as_job(overrides: Sequence[str], path: Path) -> list[str]:
    """Overrides as those of the job at `path`, which nobody watches in a terminal."""
    from hydra_plugins.kamerton._overrides import override

    kept = [text for text in overrides if key_of(text) not in _OWN]
    own = [override("run_id", path.name), override("paths.outputs", str(path.parent.parent))]
    return [*kept, *own, "callbacks.progress_bar=null", "callbacks.model_summary=null"]
