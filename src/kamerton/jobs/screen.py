"""Jobs on a terminal: a table of all, the facts of one, and a live screen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from kamerton.decide.mask import mask_text
from kamerton.jobs.store import JobStatus, read_events, read_status
from kamerton.output import echo, plain_console
from kamerton.words import span

EVENTS = 5  # the last ones, on the live screen
REFRESH_S = 0.5
_STYLES = {"succeeded": "green", "failed": "red", "running": "cyan", "paused": "yellow", "cancelled": "yellow"}


def jobs_table(jobs: Sequence[JobStatus]) -> Group:
    """A line a job, and below why some failed."""
    table = Table("run", "state", box=SIMPLE_HEAD, show_edge=False)
    for name in ("step", "left", "loss", "val loss", "test"):
        table.add_column(name, justify="right")
    for column in table.columns[:2]:
        column.no_wrap = True
    for job in jobs:
        test = job.metrics.get("test") or {}
        table.add_row(
            _name(job),
            _state(job),
            f"{job.step or 0:,}/{job.steps:,}" if job.steps else "",
            seconds(job.eta_s) if job.state == "running" else "",
            _number(job, "train", "loss"),
            _number(job, "validation", "loss"),
            f"{test['accuracy']:.3f}" if "accuracy" in test else _number(job, "test", "loss"),
        )
    return Group(table, *(f"{_name(job)}: {escape(_reason(job))}" for job in jobs if job.error))


def _name(job: JobStatus) -> str:
    return escape(f"{job.path.parent.name}/{job.id}")


def job_facts(job: JobStatus) -> Table:
    """Everything that is known of a job; what is not known is left out."""
    table = Table.grid(padding=(0, 2))
    facts = {
        "run": _name(job),
        "state": _state(job),
        "reason": escape(_reason(job)),
        "model": escape(job.model or ""),
        "step": f"{job.step or 0:,} of {job.steps:,}" if job.steps else "",
        "epoch": f"{job.epoch:.2f}" if job.epoch is not None else "",
        "examples": f"{job.examples['processed']:,} of {job.examples['total']:,}" if job.examples else "",
        "tokens": f"{job.tokens:,}" if job.tokens else "",
        "tokens/s": f"{job.tokens_per_s:,.0f}" if job.tokens_per_s else "",
        "left": seconds(job.eta_s) if job.state == "running" else "",
        **{name: escape(_metrics(job, name)) for name in ("train", "validation", "best", "base", "test")},
        "created": job.created or "",
        "started": job.started or "",
        "finished": job.finished or "",
        "directory": escape(str(job.path)),
    }
    for name, value in facts.items():
        if value:
            table.add_row(name, value)
    return table


async def watch(path: Path) -> JobStatus:
    """Show a job until it ends or is paused; where there is no terminal, a line whenever something changes."""
    console = plain_console()
    status, said = read_status(path), ""
    with Live(live_screen(path, status), console=console, auto_refresh=False, transient=False) as live:
        while True:
            if console.is_terminal:
                live.update(live_screen(path, status), refresh=True)
            elif (line := _line(status)) != said:
                said = line
                echo(line)
            if not status.is_active:
                return status
            await asyncio.sleep(REFRESH_S)
            status = read_status(path)


def live_screen(path: Path, job: JobStatus) -> Group:
    """What a watcher sees: the facts, a bar, and the last events."""
    events = read_events(path)[0][-EVENTS:]
    table = Table.grid(padding=(0, 2))
    for event in events:
        text = mask_text(str(event.get("message")))
        table.add_row(str(event.get("time"))[11:19], str(event.get("level")), escape(text))
    bar = Table.grid(expand=True)  # the bar alone ends no line
    bar.add_row(ProgressBar(total=1.0, completed=job.progress))
    return Group(job_facts(job), bar, table)


def _line(job: JobStatus) -> str:
    loss = f", loss {_number(job, 'train', 'loss')}" if job.metrics.get("train") else ""
    return f"{job.state}: step {job.step or 0:,} of {job.steps or 0:,}{loss}"


def _state(job: JobStatus) -> str:
    style = _STYLES.get(job.state, "")
    return f"[{style}]{job.state}[/{style}]" if style else job.state


def _reason(job: JobStatus) -> str:
    return mask_text(f"{job.error['code']}: {job.error['message']}") if job.error else ""


def _number(job: JobStatus, split: str, metric: str) -> str:
    value = (job.metrics.get(split) or {}).get(metric)
    return "" if value is None else f"{value:.3f}"


def _metrics(job: JobStatus, split: str) -> str:
    found = job.metrics.get(split) or {}
    return ", ".join(f"{name} {value:.4g}" for name, value in found.items())


def seconds(value: float | None) -> str:
    """A time that is left, such as `3 min 5 s`."""
    return "" if value is None else span(value)
