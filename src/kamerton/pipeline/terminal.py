"""Terminal output of a run: the plan before training, the result after it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kamerton.config.schema import Config
from kamerton.data.gate import Prepared
from kamerton.data.summary import data_losses, describe_preferences, describe_warnings
from kamerton.decide.report.folds import Spread
from kamerton.decide.report.metric_tables import Row, baseline_metrics, baseline_table, metric_table
from kamerton.decide.report.rewards import training_rows
from kamerton.decide.report.run import remarks_on_training
from kamerton.decide.report.run_files import RunFiles, read_run
from kamerton.decide.report.verdict import cautions, headline
from kamerton.run.directory import RunDirectory, record_at
from kamerton.score.preferences import is_preference, rows_word
from kamerton.train.data_module import FineTuneData
from kamerton.train.steps import binding_limit
from kamerton.words import bounds_text, early_ending, number, signed

_TONES = {"good": "bold green", "bad": "bold red", "open": "bold"}


def print_plan(
    console: Console, run: RunDirectory, prepared: Prepared, data: FineTuneData, total_steps: int, config: Config
) -> None:
    """Print the data counts and warnings, the number of steps and its limit, and the share of computed tokens."""
    counts = prepared.facts.counts
    read = f"{counts['rows read']:,} rows read, " if "rows read" in counts else ""
    duplicates = (
        f"{counts['exact duplicates removed']:,} duplicates removed, " if counts.get("exact duplicates removed") else ""
    )
    sizes = ", ".join(f"{len(examples):,} {name}" for name, examples in prepared.splits.items())
    what = describe_preferences(prepared.facts) or "free text"
    labels = f"; {len(prepared.labels)} labels" if prepared.labels else f"; {what}"
    console.print(
        f"[bold]{run.path.parent.name}/{run.run_id}[/bold]{' (resumed)' if run.resuming else ''}",
        highlight=False,
    )
    console.print(f"data   {read}{duplicates}{sizes}{labels}", highlight=False)
    rejected = {code: n for code, n in prepared.facts.rejected.items() if code != "exact-duplicate"}  # printed above
    losses = data_losses(dataclasses.replace(prepared.facts, rejected=rejected))
    for name, text in [*losses, *describe_warnings(prepared.facts)]:
        console.print(f"{name:<10} {text}", highlight=False, markup=False, soft_wrap=True)
    plan = data.plan(0)
    share, exact = plan.compute_ratio()
    _, limit = binding_limit(config, data.steps_per_epoch)
    warmup = config.scheduler.warmup_steps
    computed = f"{'' if exact else 'about '}{share:.0%} computed{' (shared prefixes run once)' if share < 1 else ''}"
    console.print(
        f"plan   {total_steps:,} step{'s' if total_steps != 1 else ''} ({total_steps / len(plan):.2f} epochs); "
        f"{plan.useful_tokens:,} tokens per epoch; {computed}",
        highlight=False,
    )
    console.print(f"       {limit}; warm-up {warmup} step{'s' if warmup != 1 else ''}", highlight=False)
    console.print(f"       micro-batch limit: {int(config.batch.max_tokens):,} tokens", highlight=False)


def print_folds(console: Console, run: RunDirectory, sizes: Sequence[int]) -> None:
    """Print the number and sizes of the folds, before the first one is trained."""
    console.print(f"[bold]{run.path.parent.name}/{run.run_id}[/bold]{' (resumed)' if run.resuming else ''}", end="")
    shown = ", ".join(f"{size:,}" for size in sizes)
    text = f"  {len(sizes)}-fold cross-validation of {sum(sizes):,} examples; held out in turn: {shown}"
    console.print(text, highlight=False, soft_wrap=True)


def print_fold(console: Console, folder: Path, fold: int, *, reused: bool) -> None:
    """Print the result of a finished fold in one line."""
    metrics = record_at(folder).metrics
    name = next(
        name for name in ("accuracy", "reward", "preference_accuracy", "margin", "loss") if name in metrics["test"]
    )
    base = f", base model {number(metrics['base'][name])}" if "base" in metrics else ""
    suffix = " (already done)" if reused else ""
    console.print(f"[bold]fold {fold}[/bold]{suffix}  {name} {number(metrics['test'][name])}{base}", highlight=False)


def print_cross_validation(console: Console, run: RunDirectory, spread: Mapping[str, Spread]) -> None:
    """Print the mean and spread of every metric over the folds, and the paths of the results."""
    table = Table(title=f"{len(next(iter(spread.values()))['values'])} folds")
    for name in ("metric", "mean", "deviation", "95 % interval of the mean", "out of fold", "base"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    metrics = run.record.metrics
    for name, values in spread.items():
        scores = [number(metrics.get(part, {}).get(name)) for part in ("out_of_fold", "base")]
        bounds = escape(bounds_text(values).strip())
        table.add_row(name, number(values["mean"]), number(values["deviation"]), bounds, *scores)
    console.print(table)
    print_baselines(console, read_run(run.path, "out_of_fold"))
    print_files(console, run)


def print_result(console: Console, run: RunDirectory) -> None:
    """Print the metrics with intervals, the verdict, and the paths of the results."""
    files = read_run(run.path)
    rows, _ = metric_table(files)
    if logged := training_rows(files.curves):
        console.print(_rewards_table(logged))
    if files.tuned is not None:
        console.print(_metrics_table(rows, files.tuned))
        if files.tuned.column_names.count("reference_logprob") and not files.tuned["reference_logprob"].null_count:
            text = "rewards are against the model before training: its preference accuracy is 0.5 and its margin 0"
            console.print(text, style="dim", highlight=False)
        print_baselines(console, files)
        sentence, tone = headline(files, rows)
        console.print(sentence, style=_TONES[tone], highlight=False, markup=False)
        _print_task(console, files)
        for caution in (*remarks_on_training(files), *cautions(files, rows)):
            console.print(caution, style="yellow", highlight=False, markup=False)
    print_files(console, run)


def _print_task(console: Console, files: RunFiles) -> None:
    """Print the metrics of the test set `score.data` and their sentence, if it was scored."""
    task = files.on_task()
    if task is None or task.tuned is None:
        return
    rows, _ = metric_table(task)
    console.print(_metrics_table(rows, task.tuned, "score.data"))
    sentence, tone = headline(task, rows)
    console.print(
        f"score.data: {sentence[:1].lower()}{sentence[1:]}", style=_TONES[tone], highlight=False, markup=False
    )


def print_early_stop(console: Console, run: RunDirectory) -> None:
    """Print why training stopped, if it stopped before its last step."""
    if text := early_ending(run.record.ended and run.record.ended.model_dump()):
        console.print(f"note   {text}", highlight=False, markup=False, soft_wrap=True)


def print_files(console: Console, run: RunDirectory) -> None:
    """Print the paths of the results, and a pointer to the code that loads the model."""
    for what, name in (
        ("report", "report.html"),
        ("model", "model"),
        ("folds", "folds"),
        ("scores", "scores"),
        ("record", "run.json"),
    ):
        if (run.path / name).exists():
            console.print(f"{what:<7}{run.path / name}", highlight=False, markup=False, soft_wrap=True)
        if name == "model" and (run.path / name / "README.md").exists():
            kind = "a LoRA adapter" if (run.path / name / "adapter_config.json").exists() else "the whole model"
            console.print(
                f"       {kind}; README.md there has the code to load it in plain transformers", highlight=False
            )


def _metrics_table(rows: list[Row], scores: pa.Table, of_what: str = "Test split") -> Table:
    """Return a table of every metric; with 95 % intervals, and the change if the base model was scored too.

    That of pairs is narrower: intervals of the change alone, and rewards in place of log-probabilities.
    """
    has_base = any(row["base"] is not None for row in rows)
    is_narrow = has_base and is_preference(scores)
    narrow = " of the change" if is_narrow else ""
    table = Table(title=f"{of_what}, {scores.num_rows:,} {rows_word(scores)}; 95 % intervals{narrow}")
    table.add_column("metric")
    for name in ("base", "tuned", "change") if has_base else ("tuned",):
        table.add_column(name, justify="right")
    for row in rows:
        if is_preference(scores) and row["name"].startswith("logprob_"):
            continue
        change = row["change"]
        tuned = number(row["tuned"]) + ("" if is_narrow else bounds_text(row["tuned_interval"]))
        changed = f"{signed(change['difference'])}{bounds_text(change)}" if change else ""
        cells = [number(row["base"]), tuned, changed] if has_base else [tuned]
        table.add_row(row["shown"], *(escape(cell) for cell in cells))
    return table


def _rewards_table(rows: list[Row]) -> Table:
    """Return a table of what training on rewards logged, at its beginning and at its end."""
    count = rows[0]["steps"]
    table = Table(title=f"Training, means of {count} step{'s' if count > 1 else ''}")
    table.add_column("metric")
    for name in ("first", "last"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(escape(row["name"]), number(row["first"]), number(row["last"]))
    return table


def print_baselines(console: Console, files: RunFiles) -> None:
    """Print a table of the baselines, if there are any."""
    if rows := baseline_table(files):
        console.print(_baselines_table(rows))


def _baselines_table(rows: list[Row]) -> Table:
    """Return a table of the baselines' metrics, and the tuned model's gain over each."""
    metrics = baseline_metrics(rows, ("accuracy", "f1"), ("loss", "token_accuracy"))
    table = Table(title="Against baselines; 95 % intervals")
    table.add_column("model")
    for name in (*metrics, f"this run’s {metrics[0]}"):
        table.add_column(name, justify="right")
    for row in rows:
        change = row["change"]
        gain = f"{signed(change['difference'])}{bounds_text(change)}" if change else ""
        cells = [row["title"], *(number(row["metrics"].get(name)) for name in metrics), gain]
        table.add_row(*(escape(cell) for cell in cells))
    return table
