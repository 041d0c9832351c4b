"""A job's events in OpenAI's format: the events of its run, the metrics of its steps, and its end.

Only the events of the requested page are built, because a job may have a hundred thousand steps.
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
from kamerton.run.record import Record
from kamerton.server.ids import request_of
from kamerton.server.routes.pages import unknown
from kamerton.server.routes.sanitize import sanitize
from kamerton.server.routes.serialize import name_in, seconds
from kamerton.server.routes.steps import Step, steps_of
from kamerton.server.settings import Settings

_LOSSES = (("train_loss", "training loss"), ("full_valid_loss", "validation loss"))
_REWARDS = (("train_mean_reward", "train mean reward"), ("full_valid_mean_reward", "full validation mean reward"))
SortKey = tuple[int, int]  # the order of events: (time, number among all events)


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` is `message` or `metrics`, `time` is in seconds since 1970; the time of a step is estimated."""

    id: str
    time: int
    level: str
    message: str
    kind: str = "message"
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Draft:
    """An event that is built only if it is on the page."""

    id: str
    time: int
    build: Callable[[str, int], Event]


def show_event(event: Event) -> dict[str, Any]:
    """Return an event in OpenAI's format."""
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
    """Return at most `limit` events of a job, newest first, and whether there are more.

    They begin after the event with the id `after`; ids are stable. Raises `ApiError` for an unknown id.
    """
    mark_if_lost(path)
    record = record_of(path)
    # In this order within one second.
    drafts = [_draft(path, "created", int(request_of(record)["created"]), f"Created fine-tuning job: {path.name}")]
    started = seconds(record.times.started)
    if started is not None:
        drafts.append(_draft(path, "started", started, "Fine-tuning job started"))
    drafts += [*_run_drafts(settings, path, record), *_end_drafts(path, record)]
    steps = steps_of(path / "metrics.csv")
    # `metrics.csv` has no times: assume that all steps took equally long.
    progress = record.progress
    start = started or int(request_of(record)["created"])
    pace = (progress.seconds or 0.0) / max(1, progress.step or 1)

    def step_key(index: int) -> SortKey:  # after the other events of the same second
        return start + int(pace * steps[index].number), len(drafts) + index

    draft_keys = [(draft.time, index) for index, draft in enumerate(drafts)]
    step_count = len(steps)
    if after is not None:
        index = _find(path, after, drafts, steps)
        end = draft_keys[index] if index < len(drafts) else step_key(index - len(drafts))
        draft_keys = [key for key in draft_keys if key < end]
        step_count = bisect_left(range(step_count), end, key=step_key)
    newest_first = merge(sorted(draft_keys, reverse=True), map(step_key, reversed(range(step_count))), reverse=True)
    keys = list(islice(newest_first, limit + 1))

    def event(time: int, index: int) -> Event:
        if index < len(drafts):
            return drafts[index].build(drafts[index].id, time)
        step = steps[index - len(drafts)]
        data = {"step": step.number, "total_steps": progress.steps, **step.values, **_scores(step)}
        shown = _REWARDS if any(key in step.values for key, _ in _REWARDS) else _LOSSES
        text = ", ".join(f"{name}={step.values[key]:.4g}" for key, name in shown if key in step.values)
        message = f"Step {step.number}/{progress.steps}: {text}"
        return Event(_id(path, f"step-{step.number}"), time, "info", message, "metrics", data)

    return [event(*key) for key in keys[:limit]], len(keys) > limit


def _scores(step: Step) -> dict[str, Any]:
    """Return the rewards of a step under the names that they have in OpenAI's `scores`."""
    names = {"train_mean_reward": "train_reward_mean", "full_valid_mean_reward": "valid_reward_mean"}
    scores = {name: step.values[key] for key, name in names.items() if key in step.values}
    return {"scores": scores} if scores else {}


def _find(path: Path, event_id: str, drafts: Sequence[_Draft], steps: Sequence[Step]) -> int:
    """Return the number of an event among all: first the drafts, then the steps."""
    number = event_id.removeprefix(_id(path, "step-"))
    if number.isdecimal() and len(number) < 20:
        index = bisect_left(steps, int(number), key=lambda step: step.number)
        if index < len(steps) and _id(path, f"step-{steps[index].number}") == event_id:
            return len(drafts) + index
    for index, draft in enumerate(drafts):
        if draft.id == event_id:
            return index
    raise unknown(event_id)


def _id(path: Path, name: object) -> str:
    return f"ftevent-{path.name.removeprefix('ftjob-')}-{name}"


def _end_drafts(path: Path, record: Record) -> Iterator[_Draft]:
    """Yield the events of a job's success, from its record."""
    progress, finished = record.progress, seconds(record.times.finished)
    if record.state == "succeeded" and finished is not None:
        step, steps = progress.step, progress.steps
        if record.ended is None and step is not None and steps is not None and step < steps:  # newer runs have an event
            message = f"Training ended early, at step {step} of {steps}: the validation loss no longer improved"
            yield _draft(path, "early", finished, message)
        model = f"New fine-tuned model created: {name_in(path, request_of(record))}"
        yield _draft(path, "model", finished, model)
        yield _draft(path, "succeeded", finished, "The job has successfully completed")


def _draft(path: Path, name: str, time: int, message: str) -> _Draft:
    return _Draft(_id(path, name), time, partial(Event, level="info", message=message))


def _run_drafts(settings: Settings, path: Path, record: Record) -> Iterator[_Draft]:
    """Yield the events of the run, from `events.jsonl`."""
    request, (lines, _) = request_of(record), read_events(path)

    def build(line: dict[str, Any], event_id: str, time: int) -> Event:
        line = sanitize(settings, path, request, line)
        data = {"code": line["code"], "evidence": line["evidence"], "advice": line["advice"]}
        return Event(event_id, time, line["level"], line["message"], data=data)

    for number, line in enumerate(lines):
        yield _Draft(_id(path, number), seconds(line["time"]) or int(request["created"]), partial(build, line))
