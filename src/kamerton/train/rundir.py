"""The run directory: `outputs/<name>/<run_id>/`, the contract between training and everything that comes after.

`run.json` is replaced atomically and always says the run's state; `events.jsonl` only grows. Nothing else in the
package needs to reach into a running process.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

import yaml

from kamerton.errors import Fault, UserError
from kamerton.files import write_text
from kamerton.train.ranks import RUN_DIR, hear, place, tell

try:
    import fcntl
except ImportError:  # Windows: two processes there are not kept from sharing a run
    fcntl = None  # type: ignore[assignment]

State = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled", "paused"]
FINISHED = ("succeeded",)

# What may differ when a run is resumed: where things go and how a step is laid out, never what is computed.
_FREE = (
    "run_id", "resume", "paths", "logger", "allow_targets", "callbacks", "debug_note", "batch.max_tokens", "batch.cut",
    "model.export", "save", "trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.log_every_n_steps",
    "trainer.num_nodes", "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.profiler",
)  # fmt: skip
_FIXED = ("callbacks.early_stopping", "callbacks.checkpoint_best")  # all the same: they decide which weights remain


# Not even by force: the checkpoint holds the weights and the optimizer state that these asked for.
_LASTING = ("model.name", "model.revision", "model.dtype", "adapter", "optimizer._target_")


class RunDirectory:
    """One run's directory; the only writer of its `run.json` and `events.jsonl`."""

    def __init__(
        self,
        path: Path,
        *,
        resuming: bool,
        started: dict[str, Any] | None = None,
        changed: list[str] | None = None,
        lock: IO[str] | None = None,
        writes: bool = True,
    ) -> None:
        """`changed` says what a forced resume changes; `lock` is held for as long as this process owns the run."""
        self.path = path
        self.resuming = resuming
        self.changed = changed or []
        self.writes = writes
        self.record: dict[str, Any] = started or {}
        self._lock = lock

    @property
    def run_id(self) -> str:
        """The directory's name."""
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        """The folder of the run's checkpoints."""
        return self.path / "checkpoints"

    def release(self) -> None:
        """Let another process go on with this run."""
        if self._lock is not None:
            self._lock.close()

    def update(self, **fields: Any) -> None:
        """Merge `fields` into `run.json` (dictionaries one level deep) and stamp the heartbeat."""
        for key, value in fields.items():
            known = self.record.get(key)
            self.record[key] = {**known, **value} if isinstance(known, dict) and isinstance(value, dict) else value
        self.record["heartbeat"] = now()
        self.record["pid"] = os.getpid()
        if self.writes:
            write_text(self.path / "run.json", json.dumps(self.record, indent=2, default=str) + "\n")

    def set_state(self, state: State, **fields: Any) -> None:
        """Move to `state`, with the time it happened."""
        times = dict(self.record.get("times") or {})
        if state == "running":
            times.setdefault("started", now())
        times["finished"] = now() if state in ("succeeded", "failed", "cancelled") else None
        self.update(state=state, times=times, **fields)

    def event(
        self,
        level: Literal["info", "warn", "error"],
        code: str,
        message: str,
        *,
        evidence: Any = None,
        advice: str = "",
    ) -> None:
        """Append one event."""
        if not self.writes:
            return
        line = {
            "time": now(),
            "level": level,
            "code": code,
            "message": message,
            "evidence": evidence,
            "advice": advice,
        }
        with (self.path / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str, ensure_ascii=False) + "\n")


def now() -> str:
    """This moment, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def config_id(values: Mapping[str, Any]) -> str:
    """A run id from what was asked: equal configurations have equal ids, however they were typed."""
    asked = {key: value for key, value in values.items() if key not in ("run_id", "resume", "paths", "logger")}
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
    return f"r{digest[:7]}"  # the letter keeps YAML from reading 12345e67 as a number


def open_run(values: Mapping[str, Any]) -> RunDirectory:
    """The directory that this configuration asks for: a new one, or an unfinished one to go on with.

    Raises `UserError` when the run is finished, is running, or was started with another configuration. The other ranks
    of the run join the directory that rank 0 opened, and write nothing.
    """
    here = place()
    if here.rank > 0:
        return _join(hear() if here.launcher else os.environ[RUN_DIR])
    path = ""
    try:
        run = _open(values)
        path = str(run.path)
    finally:
        if here.world_size > 1:
            tell(path)
    os.environ[RUN_DIR] = path
    return run


def _join(path: str) -> RunDirectory:
    if not path:
        fault = Fault("run.not-opened", "rank 0 could not open the run directory", "mend what rank 0 says")
        raise UserError([fault])
    folder = Path(path)
    return RunDirectory(folder, resuming=(folder / "checkpoints").exists(), started=read_record(folder), writes=False)


def _open(values: Mapping[str, Any]) -> RunDirectory:
    home = Path(values["paths"]["outputs"]).absolute() / str(values["name"])
    if values["run_id"] is not None:
        return _existing(home / str(values["run_id"]), values) or _create(home / str(values["run_id"]), values)
    if values["resume"] == "force":
        fix = "add run_id=ID of the run to go on with"
        raise UserError([Fault("run.unknown", "resume=force needs the run that it goes on with", fix, column="run_id")])
    candidates = [home / config_id(values)]
    while candidates[-1].exists():
        candidates.append(home / f"{candidates[0].name}-{len(candidates) + 1}")
    requeued = int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0  # by SLURM, to go on with what it stopped
    if values["resume"] == "auto" or requeued:
        unfinished = _unfinished(reversed(candidates[:-1]), values)
        if unfinished is not None:
            return unfinished
    try:
        candidates[-1].mkdir(parents=True)
    except FileExistsError:  # the same command started elsewhere at the same moment
        return _open(values)
    return _create(candidates[-1], values)


def _unfinished(paths: Iterable[Path], values: Mapping[str, Any]) -> RunDirectory | None:
    """The first run that can go on; raises `UserError` where the only ones are those that other processes own."""
    running: UserError | None = None
    for path in paths:
        try:
            run = _existing(path, values)
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


def _create(path: Path, values: Mapping[str, Any]) -> RunDirectory:
    path.mkdir(parents=True, exist_ok=True)
    lock = _lock(path)
    _write_config(path, values)
    run = RunDirectory(path, resuming=False, lock=lock)
    run.update(run_id=path.name, experiment=values["name"], provider="local", times={"created": now()}, error=None)
    return run


def _write_config(path: Path, values: Mapping[str, Any]) -> None:
    write_text(path / "config.yaml", yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True))


def _existing(path: Path, values: Mapping[str, Any]) -> RunDirectory | None:
    if not (path / "run.json").exists():
        return None
    lock = _lock(path)  # before anything is read: another process may be about to finish the run
    try:
        return _go_on(path, values, lock)
    except BaseException:
        if lock is not None:
            lock.close()
        raise


def _go_on(path: Path, values: Mapping[str, Any], lock: IO[str] | None) -> RunDirectory:
    record = read_record(path) or {}
    if record.get("state") in FINISHED:
        fix = f"its result is in {path / 'report.html'}; for a new run give another run_id, or none"
        message = f"run {path.name} is finished"
        raise UserError([Fault("run.finished", message, fix, file=str(path), column="run_id")])
    changes = _differences(_read_mapping(path / "config.yaml", yaml.safe_load), values)
    if changes and values["resume"] != "force":
        raise UserError([_changed(path, *change) for change in changes])
    lasting = [_lasting(path, *change) for change in changes if _is_below(change[0], _LASTING)]
    if lasting:
        raise UserError(lasting)
    _write_config(path, values)
    changed = [f"{key}: {_show(before)} → {_show(after)}" for key, before, after in changes]
    return RunDirectory(path, resuming=True, started=record, changed=changed, lock=lock)


def _lock(path: Path) -> IO[str] | None:
    """Own the run until this process ends, however it ends. Raises `UserError` while another process does."""
    if fcntl is None:
        return None
    file = (path / ".lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        pid = (read_record(path) or {}).get("pid", "unknown")
        message = f"run {path.name} is running (process {pid})"
        fix = "wait for it or stop it, or give another run_id"
        raise UserError([Fault("run.running", message, fix, file=str(path), column="run_id")]) from error
    return file


def read_record(path: Path) -> dict[str, Any] | None:
    """`run.json` of a run directory, or None where there is no run; raises `UserError` for a damaged one."""
    return _read_mapping(path / "run.json", json.loads) if (path / "run.json").exists() else None


def _read_mapping(file: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    try:
        found = parse(file.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
        reason = "it holds no mapping"
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
    fix = "restore the file, or give another run_id for a new run"
    raise UserError([Fault("run.damaged", f"cannot read {file.name}: {reason}", fix, file=str(file))])


def _lasting(path: Path, key: str, before: Any, after: Any) -> Fault:
    message = (
        f"run {path.name} was started with {key}={_show(before)}, and its checkpoint cannot go on with {_show(after)}"
    )
    fix = f"give {key}={_show(before)}, or another run_id for a new run"
    return Fault("run.changed", message, fix, file=str(path / "config.yaml"), column=key)


def _changed(path: Path, key: str, before: Any, after: Any) -> Fault:
    return Fault(
        "run.changed",
        f"run {path.name} was started with {key}={_show(before)}, now it is {_show(after)}",
        f"give {key}={_show(before)} to go on with it, another run_id for a new run, or resume=force to change it",
        file=str(path / "config.yaml"),
        column=key,
    )


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    old, new = _flatten(before), _flatten(after)
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [(key, old.get(key), new.get(key)) for key in keys if not _is_free(key)]


def _is_free(key: str) -> bool:
    return _is_below(key, _FREE) and not _is_below(key, _FIXED)


def _is_below(key: str, parents: tuple[str, ...]) -> bool:
    return any(key == parent or key.startswith(f"{parent}.") for parent in parents)


def _flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, Mapping):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _show(value: Any) -> str:
    return "null" if value is None else str(value)
