"""The run directory `outputs/<name>/<run_id>/`: the interface between training and every later stage.

`run.json` is replaced atomically and always holds the run's state; `events.jsonl` is append-only. All other code learns
about a running process from these files.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

import orjson

from kamerton.errors import Fault, UserError
from kamerton.files import load_yaml, own_file, write_text
from kamerton.run.record import Record, State, parse_record

_MAX_BYTES = 32 * 2**20  # bytes; a record or a configuration usually has a few thousand


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
        """`changed` lists the changes of a forced resume; `lock` is held while this process owns the run."""
        self.path = path
        self.resuming = resuming
        self.changed = changed or []
        self.writes = writes
        self.values: dict[str, Any] = started or {}  # of run.json, including fields of newer versions
        self._lock = lock

    @property
    def run_id(self) -> str:
        """Return the name of the directory."""
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        """Return the folder of the run's checkpoints."""
        return self.path / "checkpoints"

    @property
    def record(self) -> Record:
        """Return the current contents of `run.json`."""
        return parse_record(_json(json.dumps(self.values, default=str)))

    def release(self) -> None:
        """Release the lock, so that another process may resume this run."""
        if self._lock is not None:
            self._lock.close()

    def update(self, **fields: Any) -> None:
        """Merge `fields` into `run.json` (dictionaries one level deep) and stamp the heartbeat."""
        for key, value in fields.items():
            before = self.values.get(key)
            self.values[key] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
        self.values["heartbeat"] = now()
        self.values["pid"] = os.getpid()
        if self.writes:
            write_text(self.path / "run.json", json.dumps(self.values, indent=2, default=str) + "\n")

    def set_state(self, state: State, **fields: Any) -> None:
        """Change to `state` and record the time."""
        times = dict(self.values.get("times") or {})
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
        with open(self.path / "events.jsonl", "a", encoding="utf-8", opener=own_file) as file:
            file.write(json.dumps(line, default=str, ensure_ascii=False) + "\n")


def now() -> str:
    """Return the current time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_record(path: Path) -> Record | None:
    """Return `run.json` of a run directory, or None if there is no run.

    Raises `UserError` if the file is damaged or its fields are invalid.
    """
    values_and_record = _read(path)
    return None if values_and_record is None else values_and_record[1]


def record_at(path: Path) -> Record:
    """Return `run.json` as `read_record` does, or an empty record if there is no run."""
    return read_record(path) or Record()


def read_values(path: Path) -> dict[str, Any] | None:
    """Return the plain values of `run.json`, including fields of newer versions, so that they can be written back."""
    values_and_record = _read(path)
    return None if values_and_record is None else values_and_record[0]


def _read(path: Path) -> tuple[dict[str, Any], Record] | None:
    file = path / "run.json"
    try:
        os.lstat(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        pass  # reading it fails for the same reason
    values = read_mapping(file, _json)
    try:
        return values, parse_record(values)
    except ValueError as error:
        raise UserError([_damaged(file, str(error))]) from None


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)  # three times as fast, but without NaN
    except ValueError:
        return json.loads(text)


def read_mapping(file: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    """Return the mapping in a file of a run. Raises `UserError` if the file is damaged."""
    values = read_file(file, parse)
    if not isinstance(values, dict):
        raise UserError([_damaged(file, "its content is not a mapping")])
    return values


def read_config(path: Path) -> dict[str, Any]:
    """Return the configuration of the run at `path`. Raises `UserError` if the file is damaged.

    Versions that did not write `data.control_tokens` parsed control tokens in texts.
    """
    values = read_mapping(path / "config.yaml", load_yaml)
    data = values.get("data")
    return {**values, "data": {"control_tokens": "parse", **data}} if isinstance(data, dict) else values


def read_file(file: Path, parse: Callable[[str], Any]) -> Any:
    """Return the parsed content of a file of a run. Raises `UserError` if the file is damaged."""
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a regular file")  # reading a pipe would block
        if status.st_size > _MAX_BYTES:
            raise OSError(f"it has {status.st_size:,} bytes, more than {_MAX_BYTES:,}")
        return parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
    except Exception as error:  # parsers may raise anything for untrusted text, including RecursionError
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    raise UserError([_damaged(file, reason)])


def _damaged(file: Path, reason: str) -> Fault:
    fix = "restore the file, or give another run_id for a new run"
    return Fault("run.damaged", f"cannot read {file.name}: {reason}", fix, file=str(file))


ENDED = ("succeeded", "failed", "cancelled")


def read_events(path: Path, start: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Return the events in `events.jsonl` from byte `start` on, and the byte at which the next one will start."""
    file = path / "events.jsonl"
    if not file.exists():
        return [], start
    with file.open("rb") as stream:
        stream.seek(start)
        whole, newline, _ = stream.read().rpartition(b"\n")
    events = []
    for line in whole.splitlines():
        with suppress(ValueError, RecursionError):  # truncated by a kill, or not an event
            event = json.loads(line)
            if isinstance(event, dict):
                events.append(event)
    return events, start + len(whole) + len(newline)
