"""The tables and plots of a run's report for W&B: logged into the W&B run that is going on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kamerton import words
from kamerton.decide import interval_charts, verdict
from kamerton.decide.cross_report import OUT_OF_FOLD, read_summary
from kamerton.decide.examples import browsed
from kamerton.decide.report import confusion_figure
from kamerton.decide.run_files import RunFiles, read_run

EXAMPLES = ("example_id", "prompt", "target", "answer", "right", "p_answer", "p_target", "nll")
MOST_EXAMPLES = 1000


def log_report(folder: Path) -> None:
    """Log what the report of a run, or of a cross-validation, shows of its scored examples; nothing without scores."""
    import wandb

    spread = read_summary(folder)["spread"]
    files = read_run(folder, OUT_OF_FOLD if spread else "test")
    if files.tuned is None or wandb.run is None:
        return
    tables = {name: wandb.Table(columns=columns, data=rows) for name, (columns, rows) in report_tables(files).items()}
    if spread:
        tables["report/folds"] = wandb.Table(
            columns=["metric", "mean", "deviation", "low", "high"],
            data=[[name, *(one[key] for key in ("mean", "deviation", "low", "high"))] for name, one in spread.items()],
        )
    figures = {
        "report/confusion": confusion_figure(files.tuned),
        "report/fold plot": interval_charts.folds(spread, words.TITLES) if spread else None,
    }
    wandb.run.log({**tables, **{name: figure for name, figure in figures.items() if figure}})


def report_tables(files: RunFiles) -> dict[str, tuple[list[str], list[list[Any]]]]:
    """Columns and rows of each table: metrics with intervals, baselines, and the examples, wrong ones first."""
    rows, _ = verdict.metric_table(files)
    metrics = [
        [row["name"], row["base"], row["tuned"], *_interval(row["tuned_interval"]), _difference(row)] for row in rows
    ]
    found: dict[str, tuple[list[str], list[list[Any]]]] = {
        "report/metrics": (["metric", "base", "tuned", "low", "high", "difference"], metrics)
    }
    if baselines := verdict.baseline_table(files):
        names = list(baselines[-1]["metrics"])
        data = [[row["title"], *(row["metrics"].get(name) for name in names), _difference(row)] for row in baselines]
        found["report/baselines"] = (["model", *names, "difference"], data)
    examples = browsed(None, files.tuned, MOST_EXAMPLES)
    found["report/examples"] = (list(EXAMPLES), [[row[name] for name in EXAMPLES] for row in examples])
    return found


def _interval(bounds: Any) -> tuple[Any, Any]:
    return (None, None) if bounds is None else tuple(bounds)


def _difference(row: Mapping[str, Any]) -> float | None:
    change = row["change"]
    return None if change is None else float(change["difference"])
