"""A job's events in OpenAI's shape: what its run noted, the metrics of its steps, and how it ended.

They are listed a page at a time, and no more than the page is built: a job may have a hundred thousand steps.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Any

from kamerton.jobs.store import mark_if_lost, record_of
from kamerton.run.directory import read_events
from kamerton.server.routes.pages import unknown
from kamerton.server.routes.sanitize import readable
from kamerton.server.routes.serialize import name_in, seconds
from kamerton.server.routes.steps import Step, steps_of
from kamerton.server.settings import Settings

Place = tuple[int, int]  # when it was, and its number among all: the order of events


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` is `message` or `metrics`, `time` in seconds since 1970; of a step the time is an estimate."""

    id: str
    time: int
    level: str
    message: str
    kind: str = "message"
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Draft:
    """An event that is built when it is shown."""

    id: str
    time: int
    build: Callable[[str, int], Event]


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


def events_page(settings: Settings, path: Path, after: str | None, limit: int) -> tuple[list[Event], bool]:
    """At most `limit` events of a job, the newest first, and whether there are more.

    They begin after the one with the id `after`; an id always names the same event. Raises `ApiError` where there is
    none.
    """
    mark_if_lost(path)
    record = record_of(path)
    drafts = [*_begun(path, record), *_noted(settings, path, record), *_succeeded(path, record)]  # so within one second
    steps = steps_of(path / "metrics.csv")
    time_of = _clock(record)

    def place(at: int) -> Place:  # of a step: behind what else was in the same second
        return time_of(steps[at].number), len(drafts) + at

    others = [(draft.time, at) for at, draft in enumerate(drafts)]
    older = len(steps)
    if after is not None:
        at = _find(path, after, drafts, steps)
        end = others[at] if at < len(drafts) else place(at - len(drafts))
        others, older = [one for one in others if one < end], bisect_left(range(older), end, key=place)
    newest_first = merge(sorted(others, reverse=True), map(place, reversed(range(older))), reverse=True)
    chosen = list(islice(newest_first, limit + 1))

    def event(time: int, at: int) -> Event:
        if at >= len(drafts):
            return _measured(path, record, steps[at - len(drafts)], time)
        return drafts[at].build(drafts[at].id, time)

    return [event(*one) for one in chosen[:limit]], len(chosen) > limit


def _find(path: Path, event_id: str, drafts: Sequence[_Draft], steps: Sequence[Step]) -> int:
    """The number of an event among all: first those that are drafted, then the steps."""
    number = event_id.removeprefix(_id(path, "step-"))
    if number.isdecimal() and len(number) < 20:
        at = bisect_left(steps, int(number), key=lambda step: step.number)
        if at < len(steps) and _id(path, f"step-{steps[at].number}") == event_id:
            return len(drafts) + at
    for at, draft in enumerate(drafts):
        if draft.id == event_id:
            return at
    raise unknown(event_id)


def _id(path: Path, name: object) -> str:
    return f"ftevent-{path.name.removeprefix('ftjob-')}-{name}"


def _begun(path: Path, record: Mapping[str, Any]) -> Iterator[_Draft]:
    """What a run's record tells of its beginning."""
    yield _station(path, "created", int(record["request"]["created"]), f"Created fine-tuning job: {path.name}")
    started = seconds((record.get("times") or {}).get("started"))
    if started is not None:
        yield _station(path, "started", started, "Fine-tuning job started")


def _succeeded(path: Path, record: Mapping[str, Any]) -> Iterator[_Draft]:
    """What a run's record tells of its end."""
    progress, finished = record.get("progress") or {}, seconds((record.get("times") or {}).get("finished"))
    if record.get("state") == "succeeded" and finished is not None:
        step, steps = progress.get("step"), progress.get("steps")
        if "ended" not in record and step is not None and steps is not None and step < steps:  # newer runs note it
            message = f"Training ended early, at step {step} of {steps}: the validation loss no longer improved"
            yield _station(path, "early", finished, message)
        model = f"New fine-tuned model created: {name_in(path, record['request'])}"
        yield _station(path, "model", finished, model)
        yield _station(path, "succeeded", finished, "The job has successfully completed")


def _station(path: Path, name: str, time: int, message: str) -> _Draft:
    return _Draft(_id(path, name), time, partial(Event, level="info", message=message))


def _noted(settings: Settings, path: Path, record: Mapping[str, Any]) -> Iterator[_Draft]:
    """The lines of `events.jsonl`."""
    asked, (lines, _) = record["request"], read_events(path)

    def build(line: dict[str, Any], event_id: str, time: int) -> Event:
        line = readable(settings, path, asked, line)
        data = {"code": line["code"], "evidence": line["evidence"], "advice": line["advice"]}
        return Event(event_id, time, line["level"], line["message"], data=data)

    for number, line in enumerate(lines):
        yield _Draft(_id(path, number), seconds(line["time"]) or int(asked["created"]), partial(build, line))


def _clock(record: Mapping[str, Any]) -> Callable[[int], int]:
    """When a step was, as if all had taken the same time: `metrics.csv` does not say."""
    progress = record.get("progress") or {}
    since = seconds((record.get("times") or {}).get("started")) or int(record["request"]["created"])
    pace = progress.get("seconds", 0.0) / max(1, progress.get("step") or 1)
    return lambda step: since + int(pace * step)


def _measured(path: Path, record: Mapping[str, Any], step: Step, time: int) -> Event:
    """The metrics of a step."""
    steps = (record.get("progress") or {}).get("steps")
    losses = {"training": step.values.get("train_loss"), "validation": step.values.get("full_valid_loss")}
    said = ", ".join(f"{name} loss={loss:.4g}" for name, loss in losses.items() if loss is not None)
    data = {"step": step.number, "total_steps": steps, **step.values}
    message = f"Step {step.number}/{steps}: {said}"
    return Event(_id(path, f"step-{step.number}"), time, "info", message, "metrics", data)
