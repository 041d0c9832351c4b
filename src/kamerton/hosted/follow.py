"""Following a job at its endpoint until it ends: its events and metrics into the run directory, as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from kamerton.endpoint import passes, said
from kamerton.hosted.plan import Plan
from kamerton.hosted.progress import Rows, latest, merge, metric_row, step_of, write_rows
from kamerton.hosted.remote import Sleep
from kamerton.monitor.series import read_rows
from kamerton.run.directory import ENDED, RunDirectory, read_events

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

CODE = "hosted.event"  # of what the endpoint says
FIRST_S, LONGEST_S, GROWTH = 1.0, 30.0, 1.5  # pauses between two looks: they grow while nothing happens
OUTAGES = 20  # looks in vain, one after the other, before the run gives up
_PAGE = 100


@dataclass(slots=True)
class Follower:
    """What is known of a job: the rows so far, and the events that the run has already."""

    run: RunDirectory
    job_id: str
    plan: Plan
    rows: Rows = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    total: int = 0

    def __post_init__(self) -> None:
        path, hosted = self.run.path, self.run.record["hosted"]
        self.total = self.plan.steps
        self.rows = {step: dict(row) for step, row in read_rows(path / "metrics.csv")}
        events = (event for event in read_events(path)[0] if event.get("code") == CODE)
        self.seen = {str((event.get("evidence") or {}).get("id")) for event in events}
        self.seen |= {hosted["last_event"]} if hosted.get("last_event") else set()

    @property
    def step(self) -> int:
        """The last step that anything is known of."""
        return max(self.rows, default=0)


def follow(client: OpenAI, follower: Follower, sleep: Sleep, console: Console) -> FineTuningJob:
    """The job when it has ended. An endpoint that does not answer for a while is asked again."""
    from openai import APIError

    pause, outages = FIRST_S, 0
    with _bar(console, follower) as show:
        while True:
            try:
                job = client.fine_tuning.jobs.retrieve(follower.job_id)  # before its events: none is missed
                news = look(client, follower, job)
            except APIError as error:
                outages += 1
                if outages >= OUTAGES or not passes(error):
                    raise
                if outages == 1:
                    text = f"no answer, asked again: {said(error, follower.plan.endpoint)}"
                    follower.run.event("warn", "hosted.outage", text)
                pause = min(LONGEST_S, pause * 2)
            else:
                show()
                if job.status in ENDED:
                    _last(client, follower)
                    return job
                outages, pause = 0, FIRST_S if news else min(LONGEST_S, pause * GROWTH)
            sleep(pause)


def look(client: OpenAI, follower: Follower, job: FineTuningJob) -> bool:
    """Take in what is new of a job; whether anything is."""
    run, state = follower.run, job.status if job.status in ("validating_files", "queued") else "running"
    moved = run.record.get("state") != state and job.status not in ENDED
    if moved:
        run.set_state(state)
    events = fetch(client, follower, whole=job.status in ENDED)
    unseen = [event for event in events if event.id not in follower.seen]
    for event in unseen:
        _take(follower, event)
    changed = merge(follower.rows, _metrics(events))  # also of events that were seen: a step's may be completed later
    if changed:
        write_rows(run.path / "metrics.csv", follower.rows, _per_epoch(follower))
    progress, known = _progress(follower, job), {"last_event": unseen[-1].id} if unseen else {}
    run.update(progress=progress, metrics=latest(follower.rows), hosted={"status": job.status, **known})
    return moved or changed or bool(unseen)


def fetch(client: OpenAI, follower: Follower, *, whole: bool) -> list[FineTuningJobEvent]:
    """The job's events, oldest first, back to a page without a new one; `whole`: all of them.

    Endpoints give the newest first, but not in an order that can be relied on within seconds.
    """
    pages, found = client.fine_tuning.jobs.list_events(follower.job_id, limit=_PAGE).iter_pages(), []
    for page in pages:
        found += page.data
        if not whole and all(event.id in follower.seen for event in page.data):
            break
    return found[::-1]


def _take(follower: Follower, event: FineTuningJobEvent) -> None:
    """Words go to `events.jsonl`; the metrics of a step are rows of `metrics.csv` alone."""
    follower.seen.add(event.id)
    data: Mapping[str, Any] = event.data if isinstance(event.data, Mapping) else {}
    total = data.get("total_steps")
    follower.total = int(total) if isinstance(total, int | float) and total > 0 else follower.total
    if step_of(data) is None or not metric_row(data):
        evidence = {"id": event.id, "created_at": event.created_at, **({"data": dict(data)} if data else {})}
        follower.run.event(event.level, CODE, event.message, evidence=evidence)


def _metrics(events: Sequence[FineTuningJobEvent]) -> Iterator[tuple[int, dict[str, float]]]:
    for event in events:
        step = step_of(event.data)
        if step is not None and isinstance(event.data, Mapping):
            yield step, metric_row(event.data)


def _last(client: OpenAI, follower: Follower) -> None:
    """The metrics of the job's checkpoints, where the endpoint has any: those of the whole validation file."""
    from openai import APIStatusError

    try:
        found = list(client.fine_tuning.jobs.checkpoints.list(follower.job_id, limit=_PAGE))
    except APIStatusError:  # it keeps none
        return
    rows = [(one.step_number, metric_row(one.metrics.to_dict())) for one in found if one.step_number > 0]
    if merge(follower.rows, rows):
        write_rows(follower.run.path / "metrics.csv", follower.rows, _per_epoch(follower))
    names = [one.fine_tuned_model_checkpoint for one in sorted(found, key=lambda one: one.step_number)]
    follower.run.update(metrics=latest(follower.rows), hosted={"checkpoints": names})


def _progress(follower: Follower, job: FineTuningJob) -> dict[str, Any]:
    examples = follower.plan.files["train"].examples
    whole = examples * follower.plan.estimate.epochs
    share = 1.0 if job.status == "succeeded" else min(1.0, follower.step / follower.total)
    step = follower.total if job.status == "succeeded" else follower.step
    left = None if job.estimated_finish is None else max(0.0, round(job.estimated_finish - time.time(), 1))
    return {
        "step": step,
        "steps": follower.total,
        "epoch": round(share * follower.plan.estimate.epochs, 4),
        "examples": {"processed": round(share * whole), "total": whole},
        "tokens": job.trained_tokens,
        "eta_s": 0.0 if job.status in ENDED else left,
    }


def _per_epoch(follower: Follower) -> float:
    return follower.total / follower.plan.estimate.epochs


@contextmanager
def _bar(console: Console, follower: Follower) -> Iterator[Callable[[], None]]:
    """A bar of optimizer steps; what it yields moves it on."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"job {follower.job_id}", total=follower.total, state="")

        def show() -> None:
            state = str(follower.run.record.get("hosted", {}).get("status", ""))
            bar.update(task, completed=follower.step, total=follower.total, state=state)

        yield show
