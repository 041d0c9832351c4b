"""Log the tables and plots of a run's report to the active W&B run."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kamerton import words
from kamerton.config.schema import Config
from kamerton.config.targets import instantiate
from kamerton.decide.compare.examples import browsed
from kamerton.decide.report import interval_charts
from kamerton.decide.report.cross_validation import OUT_OF_FOLD, read_summary
from kamerton.decide.report.metric_tables import baseline_table, metric_table
from kamerton.decide.report.run_files import RunFiles, read_run
from kamerton.decide.report.scored_rows import confusion_figure
from kamerton.mask import mask_text
from kamerton.run.directory import RunDirectory
from kamerton.shell import as_arguments
from kamerton.train.build import start_wandb, wandb_arguments

EXAMPLES = ("example_id", "prompt", "target", "answer", "right", "p_answer", "p_target", "nll")
MOST_EXAMPLES = 1000


def log_report(folder: Path) -> None:
    """Log the report's tables and plots of a run's, or cross-validation's, scores; nothing without scores."""
    import wandb

    spread = read_summary(folder)["spread"]
    files = read_run(folder, OUT_OF_FOLD if spread else "test")
    if files.tuned is None or wandb.run is None:
        return
    tables = {name: wandb.Table(columns=columns, data=rows) for name, (columns, rows) in report_tables(files).items()}
    if spread:
        tables["report/folds"] = wandb.Table(
            columns=["metric", "mean", "deviation", "low", "high"],
            data=[
                [name, *(values[key] for key in ("mean", "deviation", "low", "high"))]
                for name, values in spread.items()
            ],
        )
    figures = {
        "report/confusion": confusion_figure(files.tuned),
        "report/fold plot": interval_charts.folds(spread, words.TITLES) if spread else None,
    }
    wandb.run.log({**tables, **{name: figure for name, figure in figures.items() if figure}})


def report_tables(files: RunFiles) -> dict[str, tuple[list[str], list[list[Any]]]]:
    """Return columns and rows of each table: metrics with intervals, baselines, and the examples, wrong ones first."""
    rows, _ = metric_table(files)
    metrics = [
        [row["name"], row["base"], row["tuned"], *(row["tuned_interval"] or (None, None)), _difference(row)]
        for row in rows
    ]
    tables: dict[str, tuple[list[str], list[list[Any]]]] = {
        "report/metrics": (["metric", "base", "tuned", "low", "high", "difference"], metrics)
    }
    if baselines := baseline_table(files):
        names = list(baselines[-1]["metrics"])
        data = [[row["title"], *(row["metrics"].get(name) for name in names), _difference(row)] for row in baselines]
        tables["report/baselines"] = (["model", *names, "difference"], data)
    examples = browsed(None, files.tuned, MOST_EXAMPLES)
    tables["report/examples"] = (list(EXAMPLES), [[row[name] for name in EXAMPLES] for row in examples])
    return tables


def _difference(row: Mapping[str, Any]) -> float | None:
    change = row["change"]
    return None if change is None else float(change["difference"])


@contextmanager
def wandb_run(config: Config) -> Iterator[None]:
    """Finish a W&B run started inside the block, so that the next run of a sweep gets its own."""
    if config.logger.get("wandb") is None:
        yield
        return
    import wandb

    wandb.setup()  # reads WANDB_SILENT now; otherwise the first warnings are printed anyway
    try:
        yield
    finally:
        wandb.finish()


def log_result(config: Config, run: RunDirectory) -> None:
    """Log the metrics of every split (`test/accuracy`) and the tables of the report to the run's W&B run.

    It is started if an earlier process trained the run. Does nothing without that logger, and on all ranks but 0.
    """
    node = config.logger.get("wandb")
    if node is None or not run.writes:
        return
    import wandb

    if wandb.run is None:
        with as_arguments([mask_text(argument) for argument in sys.argv[1:]]):
            start_wandb(instantiate(node, config.allow_targets, **wandb_arguments(config, run)))
    metrics, logged = run.record.metrics, wandb.run
    assert logged is not None
    logged.summary.update({f"{split}/{key}": metrics[split][key] for split in metrics for key in metrics[split]})
    log_report(run.path)
