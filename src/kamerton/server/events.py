"""A job's events in OpenAI's shape: what its run noted, the metrics of its steps, and how it ended."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from kamerton.jobs.store import ENDED, read_events, record_of, settle
from kamerton.server.settings import Settings
from kamerton.server.texts import readable
from kamerton.server.view import name_in, seconds

# The columns of metrics.csv that a client is shown, under OpenAI's names.
_NAMES = {
    "train/loss": "train_loss",
    "train/token_accuracy": "train_mean_token_accuracy",
    "val/loss": "full_valid_loss",
    "val/token_accuracy": "full_valid_mean_token_accuracy",
    "lr": "learning_rate",
}
Steps = tuple[tuple[int, Mapping[str, float]], ...]


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` is `message` or `metrics`, `time` in seconds since 1970; of a step the time is an estimate."""

    id: str
    time: int
    level: str
    message: str
    kind: str = "message"
    data: Mapping[str, Any] | None = None


def show_event(event: Event) -> dict[str, Any]:
    """An event as a client reads it."""
    return {
        "id": event.id,
        "object": "fine_tuning.job.event",
        "created_at": event.time,
        "level": event.level,
        "message": event.message,
        "type": event.kind,
        "data": event.data or {},
    }


def events_of(settings: Settings, path: Path) -> list[Event]:
    """All events of a job, the newest first. An id always names the same one."""
    settle(path)
    record = record_of(path)
    found = [*_stations(path, record), *_noted(settings, path, record), *_measured(path, record)]
    return sorted(found, key=lambda event: event.time)[::-1]


def _id(path: Path, name: object) -> str:
    return f"ftevent-{path.name.removeprefix('ftjob-')}-{name}"


def _stations(path: Path, record: Mapping[str, Any]) -> Iterator[Event]:
    """What a run's record tells: created, started, succeeded."""
    asked, times, progress = record["request"], record.get("times") or {}, record.get("progress") or {}
    yield Event(_id(path, "created"), int(asked["created"]), "info", f"Created fine-tuning job: {path.name}")
    started, finished = seconds(times.get("started")), seconds(times.get("finished"))
    if started is not None:
        yield Event(_id(path, "started"), started, "info", "Fine-tuning job started")
    if record.get("state") == "succeeded" and finished is not None:
        step, steps = progress.get("step"), progress.get("steps")
        if step is not None and steps is not None and step < steps:
            message = f"Training ended early, at step {step} of {steps}: the validation loss no longer improved"
            yield Event(_id(path, "early"), finished, "info", message)
        yield Event(_id(path, "model"), finished, "info", f"New fine-tuned model created: {name_in(path, asked)}")
        yield Event(_id(path, "succeeded"), finished, "info", "The job has successfully completed")


def _noted(settings: Settings, path: Path, record: Mapping[str, Any]) -> Iterator[Event]:
    """The lines of `events.jsonl`."""
    asked, (lines, _) = record["request"], read_events(path)
    for number, line in enumerate(lines):
        line = readable(settings, path, asked, line)
        data = {"code": line["code"], "evidence": line["evidence"], "advice": line["advice"]}
        time = seconds(line["time"]) or int(asked["created"])
        yield Event(_id(path, number), time, line["level"], line["message"], data=data)


def _measured(path: Path, record: Mapping[str, Any]) -> Iterator[Event]:
    """The steps of `metrics.csv`, as if all had taken the same time: it holds none."""
    file, progress = path / "metrics.csv", record.get("progress") or {}
    if not file.exists():
        return
    since = seconds((record.get("times") or {}).get("started")) or int(record["request"]["created"])
    pace = progress.get("seconds", 0.0) / max(1, progress.get("step") or 1)
    for step, values in read_steps(file, _version(file, record)):
        losses = {"training": values.get("train_loss"), "validation": values.get("full_valid_loss")}
        said = ", ".join(f"{name} loss={loss:.4g}" for name, loss in losses.items() if loss is not None)
        data = {"step": step, "total_steps": progress.get("steps"), **values}
        message = f"Step {step}/{progress.get('steps')}: {said}"
        yield Event(_id(path, f"step-{step}"), since + int(pace * step), "info", message, "metrics", data)


def _version(file: Path, record: Mapping[str, Any]) -> int:
    """What changes with the file: of one that is being written, once a second."""
    return file.stat().st_mtime_ns if record.get("state") in ENDED else int(time.time())


@lru_cache(maxsize=64)
def read_steps(file: Path, version: int) -> Steps:
    """What `metrics.csv` says of each step; read again when it has changed, and not for every client that asks."""
    del version
    steps: dict[int, dict[str, float]] = {}
    with file.open(encoding="utf-8", newline="") as lines:
        rows = csv.reader(lines)
        columns = {index: _NAMES[name] for index, name in enumerate(next(rows, [])) if name in _NAMES}
        for row in rows:
            if not row or not row[0].isdecimal():  # torn by a kill
                continue
            found = {name: float(row[index]) for index, name in columns.items() if index < len(row) and row[index]}
            steps.setdefault(int(row[0]), {}).update(found)
    return tuple(steps.items())
