"""Follow a job at its endpoint until it ends; write its events and metrics to the run directory as they arrive."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from kamerton.endpoint import error_text, passes
from kamerton.hosted.plan import Plan
from kamerton.hosted.progress import Rows, latest, merge, metric_row, step_of, write_rows
from kamerton.hosted.remote import Sleep
from kamerton.monitor.series import read_rows
from kamerton.run.directory import ENDED, RunDirectory, read_events

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

CODE = "hosted.event"  # of the endpoint's own events
FIRST_S, LONGEST_S, GROWTH = 1.0, 30.0, 1.5  # pauses between two requests: they grow while nothing changes
OUTAGES = 20  # failed requests in a row before the run gives up
_PAGE = 100


@dataclass(slots=True)
class Follower:
    """The state of a followed job: its metric rows so far, and the events that the run has recorded."""

    run: RunDirectory
    job_id: str
    plan: Plan
    rows: Rows = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    total: int = 0

    def __post_init__(self) -> None:
        path, hosted = self.run.path, self.run.record.hosted
        self.total = self.plan.steps
        self.rows = {step: dict(row) for step, row in read_rows(path / "metrics.csv")}
        events = (event for event in read_events(path)[0] if event.get("code") == CODE)
        self.seen = {str((event.get("evidence") or {}).get("id")) for event in events}
        self.seen |= {hosted.last_event} if hosted.last_event else set()

    @property
    def step(self) -> int:
        """The last step with metrics."""
        return max(self.rows, default=0)

    def metrics(self, data: Mapping[str, Any]) -> dict[str, float]:
        """Return the metrics in the data of an event or a checkpoint."""
        return metric_row(data, likelihood=self.plan.method == "supervised")


def follow(client: OpenAI, follower: Follower, sleep: Sleep, console: Console) -> FineTuningJob:
    """Return the job when it has ended. An endpoint that does not answer for a while is asked again."""
    from openai import APIError

    pause, outages = FIRST_S, 0
    with _bar(console, follower) as show:
        while True:
            try:
                job = client.fine_tuning.jobs.retrieve(follower.job_id)  # before its events: none is missed
                has_news = update(client, follower, job)
            except APIError as error:
                outages += 1
                if outages >= OUTAGES or not passes(error):
                    raise
                if outages == 1:
                    text = f"no answer, asked again: {error_text(error, follower.plan.endpoint)}"
                    follower.run.event("warn", "hosted.outage", text)
                pause = min(LONGEST_S, pause * 2)
            else:
                show()
                if job.status in ENDED:
                    _add_checkpoints(client, follower)
                    return job
                outages, pause = 0, FIRST_S if has_news else min(LONGEST_S, pause * GROWTH)
            sleep(pause)


def update(client: OpenAI, follower: Follower, job: FineTuningJob) -> bool:
    """Record the new state, events and metrics of a job; return whether there were any."""
    run, state = follower.run, job.status if job.status in ("validating_files", "queued") else "running"
    has_moved = run.record.state != state and job.status not in ENDED
    if has_moved:
        run.set_state(state)
    events = fetch(client, follower, complete=job.status in ENDED)
    unseen = [event for event in events if event.id not in follower.seen]
    for event in unseen:
        follower.seen.add(event.id)
        data: Mapping[str, Any] = event.data if isinstance(event.data, Mapping) else {}
        total = data.get("total_steps")
        follower.total = int(total) if isinstance(total, int | float) and total > 0 else follower.total
        if step_of(data) is None or not follower.metrics(data):  # the metrics of a step are rows of `metrics.csv`
            evidence = {"id": event.id, "created_at": event.created_at, **({"data": dict(data)} if data else {})}
            run.event(event.level, CODE, event.message, evidence=evidence)
    rows = [
        (step, follower.metrics(event.data))
        for event in events  # of seen events too: the metrics of a step may be completed later
        if (step := step_of(event.data)) is not None and isinstance(event.data, Mapping)
    ]
    has_changed = merge(follower.rows, rows)
    if has_changed:
        write_rows(run.path / "metrics.csv", follower.rows, _per_epoch(follower))
    last_event = {"last_event": unseen[-1].id} if unseen else {}
    hosted = {"status": job.status, **last_event}
    run.update(progress=_progress(follower, job), metrics=latest(follower.rows), hosted=hosted)
    return has_moved or has_changed or bool(unseen)


def fetch(client: OpenAI, follower: Follower, *, complete: bool) -> list[FineTuningJobEvent]:
    """Return the job's events, oldest first, back to a page without a new one; `complete`: all of them.

    Endpoints return the newest first, but their order within seconds is not reliable.
    """
    pages, events = client.fine_tuning.jobs.list_events(follower.job_id, limit=_PAGE).iter_pages(), []
    for page in pages:
        events += page.data
        if not complete and all(event.id in follower.seen for event in page.data):
            break
    return events[::-1]


def _add_checkpoints(client: OpenAI, follower: Follower) -> None:
    """Record the job's checkpoints, if the endpoint has any, with their metrics on the complete validation file."""
    from openai import APIStatusError

    try:
        checkpoints = list(client.fine_tuning.jobs.checkpoints.list(follower.job_id, limit=_PAGE))
    except APIStatusError:  # it keeps none
        return
    checkpoints.sort(key=lambda checkpoint: checkpoint.step_number)
    kept = [each for each in checkpoints if each.step_number > 0]
    rows = [(each.step_number, follower.metrics(each.metrics.to_dict())) for each in kept]
    if merge(follower.rows, rows):
        write_rows(follower.run.path / "metrics.csv", follower.rows, _per_epoch(follower))
    names = [checkpoint.fine_tuned_model_checkpoint for checkpoint in checkpoints]
    follower.run.update(metrics=latest(follower.rows), hosted={"checkpoints": names})


def _progress(follower: Follower, job: FineTuningJob) -> dict[str, Any]:
    examples = follower.plan.files["train"].examples
    total = examples * follower.plan.estimate.epochs
    share = 1.0 if job.status == "succeeded" else min(1.0, follower.step / follower.total)
    step = follower.total if job.status == "succeeded" else follower.step
    left = None if job.estimated_finish is None else max(0.0, round(job.estimated_finish - time.time(), 1))
    return {
        "step": step,
        "steps": follower.total,
        "epoch": round(share * follower.plan.estimate.epochs, 4),
        "examples": {"processed": round(share * total), "total": total},
        "tokens": job.trained_tokens,
        "eta_s": 0.0 if job.status in ENDED else left,
    }


def _per_epoch(follower: Follower) -> float:
    return follower.total / follower.plan.estimate.epochs


@contextmanager
def _bar(console: Console, follower: Follower) -> Iterator[Callable[[], None]]:
    """Show a bar of optimizer steps; yields the function that updates it."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"job {follower.job_id}", total=follower.total, state="")

        def show() -> None:
            state = follower.run.record.hosted.status
            bar.update(task, completed=follower.step, total=follower.total, state=state)

        yield show
