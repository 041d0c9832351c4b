"""Terminal output of jobs: a table of all jobs, the facts of one, and a live screen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.cells import cell_len, set_cell_size
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kamerton.config.objective_options import GENERATING
from kamerton.console import plain_console
from kamerton.jobs.store import JobStatus, read_status
from kamerton.mask import mask_text
from kamerton.output import echo
from kamerton.run.directory import read_events
from kamerton.words import duration, early_ending

MAX_EVENTS = 5  # on the live screen
MAIN_METRICS = ("accuracy", "preference_accuracy", "reward")  # of the test split in a list; without one the loss
REFRESH_S = 0.5
_STYLES = {"succeeded": "green", "failed": "red", "running": "cyan", "paused": "yellow", "cancelled": "yellow"}


def jobs_table(jobs: Sequence[JobStatus]) -> Text:
    """Return one line per job and the reasons of failures. Without rich's table, which takes seconds for thousands.

    Objectives are a column if there are others than supervised fine-tuning.
    """
    rows = [("run", "state", "objective", "step", "left", "loss", "val loss", "test"), *map(_cells, jobs)]
    if all(job.objective in (None, "sft") for job in jobs):
        rows = [(*row[:2], *row[3:]) for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    styles = ["bold", *(_STYLES.get(job.state, "") for job in jobs)]
    parts: list[tuple[str, str]] = []
    for (name, state, *numbers), style in zip(rows, styles, strict=True):
        left = [set_cell_size(text, width) for text, width in zip((name, state), widths, strict=False)]
        right = [" " * (width - len(text)) + text for text, width in zip(numbers, widths[2:], strict=True)]
        parts += [(f" {left[0]}  ", ""), (left[1], style), (f"  {'  '.join(right)}".rstrip() + "\n", "")]
    parts += [(f"{_name(job)}: {why}\n", "") for job in jobs if (why := _reason(job) or _ending(job))]
    return Text.assemble(*parts, end="")


def _cells(job: JobStatus) -> tuple[str, ...]:
    split = "out_of_fold" if job.metrics.get("out_of_fold") else "test"  # of a cross-validation
    test = job.metrics.get(split) or {}
    names = ("reward", *MAIN_METRICS) if job.objective in GENERATING else MAIN_METRICS
    return (
        _name(job),
        job.state,
        job.objective or "",
        f"{job.step or 0:,}/{job.steps:,}" if job.steps else "",
        seconds(job.eta_s) if job.state == "running" else "",
        _number(job, "train", "loss"),
        _number(job, "validation", "loss"),
        _number(job, split, next((name for name in names if name in test), "loss")),
    )


def _name(job: JobStatus) -> str:
    return f"{job.path.parent.name}/{job.id}"


def job_facts(job: JobStatus) -> Table:
    """Return a table of the known facts of a job."""
    table = Table.grid(padding=(0, 2))
    examples, metrics = job.examples, {}
    for split in ("train", "validation", "best", "base", "test", "mean", "out_of_fold"):
        values = (job.metrics.get(split) or {}).items()
        metrics[split.replace("_", " ")] = ", ".join(
            f"{name} {value:.4g}" for name, value in values if value is not None
        )
    facts = {
        "run": _name(job),
        "state": job.state,
        "reason": _reason(job),
        "ended": _ending(job),
        "model": job.model,
        "objective": job.objective,
        "step": f"{job.step or 0:,} of {job.steps:,}" if job.steps else "",
        "epoch": f"{job.epoch:.2f}" if job.epoch is not None else "",
        "examples": f"{examples.get('processed', 0):,} of {examples.get('total', 0):,}" if examples else "",
        "tokens": f"{job.tokens:,}" if job.tokens else "",
        "tokens/s": f"{job.tokens_per_s:,.0f}" if job.tokens_per_s else "",
        "left": seconds(job.eta_s) if job.state == "running" else "",
        **metrics,
        "created": job.created,
        "started": job.started,
        "finished": job.finished,
        "directory": str(job.path),
    }
    for name, value in facts.items():
        if value:
            table.add_row(name, Text(value, style=_STYLES.get(job.state, "") if name == "state" else ""))
    return table


async def watch(path: Path) -> JobStatus:
    """Show a job until it ends or is paused; without a terminal, print a line whenever its status changes."""
    import asyncio  # not needed by `kamerton runs`

    console = plain_console()
    status, printed = read_status(path), ""
    with Live(live_screen(path, status), console=console, auto_refresh=False, transient=False) as live:
        while True:
            if console.is_terminal:
                live.update(live_screen(path, status), refresh=True)
            else:
                loss = f", loss {_number(status, 'train', 'loss')}" if status.metrics.get("train") else ""
                ending = _ending(status) if status.is_finished else ""
                line = f"{status.state}: step {status.step or 0:,} of {status.steps or 0:,}{loss}"
                line += f"; {ending}" if ending else ""
                if line != printed:
                    printed = line
                    echo(line)
            if not status.is_active:
                return status
            await asyncio.sleep(REFRESH_S)
            status = read_status(path)


def live_screen(path: Path, job: JobStatus) -> Group:
    """Return the live view: facts, progress bar and latest events."""
    events = read_events(path)[0][-MAX_EVENTS:]
    table = Table.grid(padding=(0, 2))
    for event in events:
        time, level, message = (str(event.get(key)) for key in ("time", "level", "message"))
        table.add_row(Text(time[11:19]), Text(level), Text(mask_text(message)))
    bar = Table.grid(expand=True)  # the bar alone does not end its line
    bar.add_row(ProgressBar(total=1.0, completed=job.progress))
    return Group(job_facts(job), bar, table)


def _reason(job: JobStatus) -> str:
    return mask_text(f"{job.error['code']}: {job.error['message']}") if job.error else ""


def _ending(job: JobStatus) -> str:
    """Return a sentence about training that ended before its last step, else an empty string."""
    return mask_text(early_ending(job.ended) or "")


def _number(job: JobStatus, split: str, metric: str) -> str:
    value = (job.metrics.get(split) or {}).get(metric)
    return "" if value is None else f"{value:.3f}"


def seconds(value: float | None) -> str:
    """Return a remaining time such as `3 min 5 s`; empty if unknown."""
    return "" if value is None else duration(value)
