"""What a person sees in the terminal: the plan before, the result after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from kamerton.data.gate import Prepared
from kamerton.data.say import losses
from kamerton.decide.run_files import read_run
from kamerton.decide.verdict import Row, cautions, headline, metric_table, number, signed, span
from kamerton.plan.epoch import EpochPlan
from kamerton.train.rundir import RunDirectory

_TONES = {"good": "bold green", "bad": "bold red", "open": "bold"}


def say_plan(
    console: Console, run: RunDirectory, prepared: Prepared, plan: EpochPlan, total_steps: int, max_tokens: int
) -> None:
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
    share, exact = plan.computed_share()
    console.print(
        f"plan   {total_steps:,} steps ({total_steps / len(plan):.2f} epochs); an epoch has"
        f" {plan.useful_tokens:,} tokens and computes {'' if exact else 'about '}{share:.0%} of them",
        highlight=False,
    )
    console.print(f"       {max_tokens:,} tokens at most in one pass", highlight=False)


@contextmanager
def count_bar(console: Console, title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar that is advanced by calling what it yields."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.advance(task, done)


def say_result(console: Console, run: RunDirectory) -> None:
    """How good the model became and how sure that is, base and tuned side by side, and where everything is."""
    files = read_run(run.path)
    rows, _ = metric_table(files)
    if files.tuned is not None:
        console.print(_table(rows, files.tuned.num_rows))
        sentence, tone = headline(files, rows)
        console.print(sentence, style=_TONES[tone], highlight=False, markup=False)
        for caution in cautions(files, rows):
            console.print(caution, style="yellow", highlight=False, markup=False)
    for what, name in (
        ("report", "report.html"),
        ("model", "model"),
        ("scores", "scores"),
        ("record", "run.json"),
    ):
        if (run.path / name).exists():
            console.print(f"{what:<7}{run.path / name}", highlight=False, soft_wrap=True)


def _table(rows: list[Row], examples: int) -> Table:
    """Every metric; the tuned model's and the change, where both were scored, with 95 % intervals."""
    table = Table(title=f"Test split, {examples:,} examples; 95 % intervals")
    table.add_column("metric")
    has_base = any(row["base"] is not None for row in rows)
    for name in ("base", "tuned", "change") if has_base else ("tuned",):
        table.add_column(name, justify="right")
    for row in rows:
        change = row["change"]
        tuned = number(row["tuned"]) + span(row["tuned_interval"])
        changed = f"{signed(change['difference'])}{span(change)}" if change else ""
        cells = [number(row["base"]), tuned, changed] if has_base else [tuned]
        table.add_row(row["name"], *(escape(cell) for cell in cells))
    return table
