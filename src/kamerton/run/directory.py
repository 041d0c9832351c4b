"""The run directory: `outputs/<name>/<run_id>/`, the contract between training and everything that comes after.

`run.json` is replaced atomically and always says the run's state; `events.jsonl` only grows. Nothing else in the
package needs to reach into a running process.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

import orjson

from kamerton.errors import Fault, UserError
from kamerton.files import load_yaml, own_file, write_text
from kamerton.run.record import Record, State, parse_record

_LARGEST = 32 * 2**20  # bytes; a record or a configuration has some thousands


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
        self.values: dict[str, Any] = started or {}  # of run.json, also those that only a newer version knows
        self._lock = lock

    @property
    def run_id(self) -> str:
        """The directory's name."""
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        """The folder of the run's checkpoints."""
        return self.path / "checkpoints"

    @property
    def record(self) -> Record:
        """What `run.json` says by now."""
        return parse_record(_json(json.dumps(self.values, default=str)))

    def release(self) -> None:
        """Let another process go on with this run."""
        if self._lock is not None:
            self._lock.close()

    def update(self, **fields: Any) -> None:
        """Merge `fields` into `run.json` (dictionaries one level deep) and stamp the heartbeat."""
        for key, value in fields.items():
            known = self.values.get(key)
            self.values[key] = {**known, **value} if isinstance(known, dict) and isinstance(value, dict) else value
        self.values["heartbeat"] = now()
        self.values["pid"] = os.getpid()
        if self.writes:
            write_text(self.path / "run.json", json.dumps(self.values, indent=2, default=str) + "\n")

    def set_state(self, state: State, **fields: Any) -> None:
        """Move to `state`, with the time it happened."""
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
    """This moment, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_record(path: Path) -> Record | None:
    """`run.json` of a run directory, or None where there is no run.

    Raises `UserError` for a damaged one, or one whose fields are not what a run's are.
    """
    found = _read(path)
    return None if found is None else found[1]


def record_at(path: Path) -> Record:
    """As `read_record`; an empty record where there is no run."""
    return read_record(path) or Record()


def read_values(path: Path) -> dict[str, Any] | None:
    """The plain values of `run.json`, with those that only a newer version knows: to be written again."""
    found = _read(path)
    return None if found is None else found[0]


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
    """The mapping that a file of a run holds; raises `UserError` for a damaged one."""
    found = read_file(file, parse)
    if not isinstance(found, dict):
        raise UserError([_damaged(file, "it holds no mapping")])
    return found


def read_config(path: Path) -> dict[str, Any]:
    """The configuration of the run at `path`; raises `UserError` for a damaged one.

    Versions that did not write `data.control_tokens` parsed those in texts.
    """
    values = read_mapping(path / "config.yaml", load_yaml)
    data = values.get("data")
    return {**values, "data": {"control_tokens": "parse", **data}} if isinstance(data, dict) else values


def read_file(file: Path, parse: Callable[[str], Any]) -> Any:
    """What a file of a run holds; raises `UserError` for a damaged one."""
    try:
        there = file.stat()
        if not stat.S_ISREG(there.st_mode):
            raise OSError("it is not a regular file")  # a pipe would be waited for
        if there.st_size > _LARGEST:
            raise OSError(f"it has {there.st_size:,} bytes, more than {_LARGEST:,}")
        return parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
    except Exception as error:  # parsers raise all kinds for text from anywhere, RecursionError among them
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    raise UserError([_damaged(file, reason)])


def _damaged(file: Path, reason: str) -> Fault:
    fix = "restore the file, or give another run_id for a new run"
    return Fault("run.damaged", f"cannot read {file.name}: {reason}", fix, file=str(file))


ENDED = ("succeeded", "failed", "cancelled")


def read_events(path: Path, start: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The events that `events.jsonl` holds from byte `start` on, and where the next one will begin."""
    file = path / "events.jsonl"
    if not file.exists():
        return [], start
    with file.open("rb") as stream:
        stream.seek(start)
        whole, newline, _ = stream.read().rpartition(b"\n")
    return list(_parsed(whole)), start + len(whole) + len(newline)


def _parsed(lines: bytes) -> Iterator[dict[str, Any]]:
    for line in lines.splitlines():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):  # torn by a kill, or no event
            continue
        if isinstance(event, dict):
            yield event
