"""Open the run directory of a command: a new one, or an unfinished one to resume."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import yaml

from kamerton.config.places import NAME
from kamerton.config.schema import mapping_at
from kamerton.errors import Fault, UserError
from kamerton.files import load_yaml, write_text
from kamerton.locks import acquire, lock_owner
from kamerton.run.changes import (
    as_begun,
    changed_faults,
    describe,
    differences,
    grader_faults,
    lasting_faults,
    without_later,
)
from kamerton.run.directory import RunDirectory, now, read_mapping, read_values, record_at
from kamerton.run.distributed import RUN_DIR, broadcast, rank_info, receive
from kamerton.run.graders import graders_fingerprint, keep_graders, read_graders

FINISHED = ("succeeded",)
LOCK = ".lock"  # held by the process that trains


def open_run(values: Mapping[str, Any], home: Path | None = None, *, reopens: bool = False) -> RunDirectory:
    """Open the directory of this configuration: a new one, or an unfinished one to resume.

    It is in `home`, by default `<paths.outputs>/<name>`. `reopens`: also open a run that finished unscored. Raises
    `UserError` if the run is finished, is running, or was started with another configuration. The other ranks of the
    run open the directory of rank 0, and write nothing.
    """
    here = rank_info()
    if here.rank > 0:
        path = receive() if here.launcher else os.environ[RUN_DIR]
        if not path:
            message, fix = "rank 0 could not open the run directory", "correct the error reported by rank 0"
            raise UserError([Fault("run.not-opened", message, fix)])
        resuming, started = (Path(path) / "checkpoints").exists(), read_values(Path(path))
        return RunDirectory(Path(path), resuming=resuming, started=started, writes=False)
    path = ""
    try:
        outputs = Path(values["paths"]["outputs"]).absolute()
        run = claim_run(values, home or outputs / str(values["name"]), reopens)
        path = str(run.path)
    finally:
        if here.world_size > 1:
            broadcast(path)
    os.environ[RUN_DIR] = path
    return run


def config_id(values: Mapping[str, Any]) -> str:
    """Return a run id for the configuration: equal configurations have equal ids, however they were typed."""
    return _config_id(values, read_graders(values))


def _config_id(values: Mapping[str, Any], graders: Sequence[bytes]) -> str:
    elsewhere = ("run_id", "resume", "paths", "logger", "sweep")
    relevant = without_later({key: value for key, value in values.items() if key not in elsewhere})
    if (trainer := mapping_at(relevant, "trainer")).get("max_epochs") == -1:  # 1 in older runs, which keep their ids
        relevant = {**relevant, "trainer": {**trainer, "max_epochs": 1}}
    if (data := mapping_at(relevant, "data")).get("encoding") == "auto":  # utf-8 in older runs, which keep their ids
        relevant = {**relevant, "data": {**data, "encoding": "utf-8"}}
    if (data := mapping_at(relevant, "data")).get("rows") == "prompts":  # older runs on rewards have no such key
        relevant = {**relevant, "data": {key: value for key, value in data.items() if key != "rows"}}
    if graders:  # a file may have another grader at the same path
        relevant = {**relevant, "graders": graders_fingerprint(graders)}
    digest = hashlib.sha256(json.dumps(relevant, sort_keys=True, default=str).encode()).hexdigest()
    return f"r{digest[:7]}"  # the letter keeps YAML from reading 12345e67 as a number


def finished_run(values: Mapping[str, Any]) -> Path | None:
    """Return the newest run of this configuration that was started without an id, if it is finished.

    A resumed grid skips it.
    """
    home = Path(values["paths"]["outputs"]).absolute() / str(values["name"])
    newest, number = home / config_id(values), 1
    while (later := home / f"{config_id(values)}-{number + 1}").exists():
        newest, number = later, number + 1
    is_finished = values["run_id"] is None and record_at(newest).state in FINISHED
    return newest if is_finished else None


def elsewhere_faults(values: Mapping[str, Any]) -> list[Fault]:
    """Return a fault for each unfinished run with this id under another name, which a new run would not resume."""
    name, run_id, outputs = (values.get(key) for key in ("name", "run_id", "paths"))
    root = Path(str(mapping_at({"paths": outputs}, "paths").get("outputs")))
    if run_id is None or not re.fullmatch(NAME, str(run_id)) or (root / str(name) / str(run_id)).exists():
        return []
    folders = [file.parent for file in sorted(root.glob(f"*/{run_id}/run.json"))]
    return [
        Fault(
            "run.elsewhere",
            f"unfinished run {run_id} is in {path.parent}, and this command would start another in {root / str(name)}",
            f"to resume it, repeat its whole command with run_id={run_id}; for a new run give another run_id",
            column="run_id",
        )
        for path in folders
        if record_at(path).state not in (*FINISHED, "cancelled")
    ]


def claim_run(values: Mapping[str, Any], home: Path, reopens: bool = False) -> RunDirectory:
    """Open the directory in `home` and own it until it is released. Arguments as for `open_run`."""
    graders = read_graders(values)
    if values["run_id"] is not None:
        path = home / str(values["run_id"])
        return _existing(path, values, graders, reopens) or _create(path, values, graders)
    if values["resume"] == "force":
        fix = "add run_id=ID of the run to resume"
        raise UserError([Fault("run.unknown", "resume=force needs the id of the run to resume", fix, column="run_id")])
    candidates = [home / _config_id(values, graders)]
    while candidates[-1].exists():
        candidates.append(home / f"{candidates[0].name}-{len(candidates) + 1}")
    requeued = int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0  # SLURM restarted this job after stopping it
    if values["resume"] == "auto" or requeued:
        unfinished = _unfinished(reversed(candidates[:-1]), values, graders)
        if unfinished is not None:
            return unfinished
    try:
        candidates[-1].mkdir(parents=True)
    except FileExistsError:  # another process started the same command at the same time
        return claim_run(values, home)
    return _create(candidates[-1], values, graders)


def _unfinished(paths: Iterable[Path], values: Mapping[str, Any], graders: Sequence[bytes]) -> RunDirectory | None:
    """Return the first run that can be resumed. Raises `UserError` if other processes own all candidates."""
    running: UserError | None = None
    for path in paths:
        try:
            run = _existing(path, values, graders)
        except UserError as error:
            code = error.faults[0].code
            if code not in ("run.running", "run.finished"):
                raise
            running = running or (error if code == "run.running" else None)
        else:
            if run is not None:
                return run
    if running is not None:
        raise running
    return None


def _create(path: Path, values: Mapping[str, Any], graders: Sequence[bytes]) -> RunDirectory:
    path.mkdir(parents=True, exist_ok=True)
    lock = own(path)
    keep_graders(path, graders)
    _write_config(path, values)
    run = RunDirectory(path, resuming=False, lock=lock)
    provider = (values.get("model") or {}).get("provider") or "local"
    facts = {
        "experiment": values["name"],
        "provider": provider,
        "objective": mapping_at(values, "objective").get("name"),
    }
    if graders:
        facts["graders"] = graders_fingerprint(graders)
    run.update(run_id=path.name, **facts, times={"created": now()}, error=None)
    return run


def _write_config(path: Path, values: Mapping[str, Any]) -> None:
    write_text(path / "config.yaml", yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True))


def _existing(
    path: Path, values: Mapping[str, Any], graders: Sequence[bytes], reopens: bool = False
) -> RunDirectory | None:
    if not (path / "run.json").exists():
        return None
    lock = own(path)  # before reading, because another process may be about to finish the run
    try:
        return _resume(path, values, graders, lock, reopens)
    except BaseException:
        if lock is not None:
            lock.close()
        raise


def _resume(
    path: Path, values: Mapping[str, Any], graders: Sequence[bytes], lock: IO[str] | None, reopens: bool
) -> RunDirectory:
    started = read_values(path) or {}
    record = record_at(path)
    if record.state in FINISHED and (not reopens or (path / "report.html").exists()):
        fix = f"its result is in {path / 'report.html'}; for a new run give another run_id, or none"
        message = f"run {path.name} is finished"
        raise UserError([Fault("run.finished", message, fix, file=str(path), column="run_id")])
    before = read_mapping(path / "config.yaml", load_yaml)
    values = as_begun(before, values)
    changes, fingerprint = differences(before, values), graders_fingerprint(graders)
    other_graders = grader_faults(path, record.graders, fingerprint, changes)
    if (changes or other_graders) and values["resume"] != "force":
        raise UserError([*changed_faults(path, before, values), *other_graders])
    if lasting := lasting_faults(path, changes):
        raise UserError(lasting)
    _write_config(path, values)
    keep_graders(path, graders)
    has_started = "job" not in started or "versions" in started  # a queued job has a record before it starts
    changed = [*describe(changes), *(fault.message for fault in other_graders)]
    run = RunDirectory(path, resuming=has_started, started=started, changed=changed, lock=lock)
    if fingerprint != record.graders:  # also those of a job whose files were written after its directory
        run.update(graders=fingerprint)
    return run


def own(path: Path) -> IO[str]:
    """Own the run until this process exits. Raises `UserError` if another process owns it."""
    lock = acquire(path / LOCK)
    if lock is not None:
        return lock
    owner = lock_owner(path / LOCK)
    pid = (owner and owner.pid) or record_at(path).pid or "unknown"
    message = f"run {path.name} is running (process {pid})"
    fix = "wait for it or stop it, or give another run_id"
    raise UserError([Fault("run.running", message, fix, file=str(path), column="run_id")])
