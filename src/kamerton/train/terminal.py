"""What a person sees in the terminal: the plan before, the result after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from kamerton.data.gate import Prepared
from kamerton.data.say import losses
from kamerton.plan.epoch import EpochPlan
from kamerton.train.rundir import RunDirectory

_SHOWN = ("accuracy", "f1", "precision", "recall", "ece", "loss", "perplexity", "token_accuracy")


def say_plan(console: Console, run: RunDirectory, prepared: Prepared, plan: EpochPlan, total_steps: int) -> None:
    """Data counts, steps, and what the layout of the steps saves, before the first one."""
    counts = prepared.report.get("counts", {})
    read = f"{counts['rows read']:,} rows read, " if "rows read" in counts else ""
    twice = (
        f"{counts['exact duplicates removed']:,} duplicates removed, " if counts.get("exact duplicates removed") else ""
    )
    sizes = ", ".join(f"{len(examples):,} {name}" for name, examples in prepared.splits.items())
    labels = f"; {len(prepared.labels)} labels" if prepared.labels else "; free text"
    console.print(
        f"[bold]{run.path.parent.name}/{run.run_id}[/bold]{' (resumed)' if run.resuming else ''}",
        highlight=False,
    )
    console.print(f"data   {read}{twice}{sizes}{labels}", highlight=False)
    rejected = {code: n for code, n in prepared.report["rejected"].items() if code != "exact-duplicate"}  # said above
    for name, text in losses(prepared.report | {"rejected": rejected}):
        console.print(f"{name:<10} {text}", highlight=False, soft_wrap=True)
    share = plan.computed_tokens / max(plan.useful_tokens, 1)
    console.print(
        f"plan   {total_steps:,} steps ({total_steps / len(plan.steps):.2f} epochs); an epoch has"
        f" {plan.useful_tokens:,} tokens and computes {share:.0%} of them",
        highlight=False,
    )


@contextmanager
def count_bar(console: Console, title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar that is advanced by calling what it yields."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.advance(task, done)


def say_result(console: Console, run: RunDirectory) -> None:
    """The metrics of base and tuned model side by side, and where everything is."""
    metrics = run.record.get("metrics", {})
    base, tuned = metrics.get("base", {}), metrics.get("test", {})
    if tuned:
        table = Table(title=f"Test split, {run.record['data']['counts'].get('test', 0):,} examples")
        table.add_column("metric")
        for column in (["base"] if base else []) + ["tuned"]:
            table.add_column(column, justify="right")
        for name in (name for name in _SHOWN if name in tuned):
            values = [base.get(name), tuned[name]] if base else [tuned[name]]
            table.add_row(name, *("" if value is None else f"{value:.4f}" for value in values))
        console.print(table)
    for what, name in (
        ("report", "report.html"),
        ("model", "model"),
        ("scores", "scores"),
        ("record", "run.json"),
    ):
        if (run.path / name).exists():
            console.print(f"{what:<7}{run.path / name}", highlight=False, soft_wrap=True)
