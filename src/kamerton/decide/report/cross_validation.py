"""The report of a cross-validation: mean and spread over folds, and metrics of all out-of-fold predictions.

directory ──▶ RunFiles, cross_validation.json ──▶ contents (plain values) ──▶ report.html, report.md, report.json
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from kamerton import words
from kamerton.decide.compare.words import MAIN_METRICS
from kamerton.decide.report import interval_charts
from kamerton.decide.report.metric_tables import Row, metric_table
from kamerton.decide.report.run import common_contents, elapsed
from kamerton.decide.report.run_files import RunFiles, read_run
from kamerton.decide.report.scored_rows import confusion_figure
from kamerton.report.pages import moment, plain, write_pages
from kamerton.run.record import State

FILE = "cross_validation.json"
OUT_OF_FOLD = "out_of_fold"


def write_cross_report(folder: Path, *, state: State | None = None) -> Path:
    """Write report.html, report.md and report.json into a cross-validation's directory; return the path of the first.

    `state` replaces the recorded state, if the record is not up to date yet. The report names missing files.
    """
    run = read_run(folder, OUT_OF_FOLD, state)
    values = contents(run, read_summary(folder))
    spread = values["summary"]["spread"]
    main = _main_metric(spread)
    shown = [main, *({"accuracy": ["f1"], "preference_accuracy": ["margin"]}.get(main, []))]
    titles = {name: words.title(name) for name in shown}
    figures = {"folds": interval_charts.folds(spread, titles), "confusion": confusion_figure(run.tuned)}
    return write_pages(folder, "kamerton.decide", "cross_validation", values, figures)


def contents(run: RunFiles, summary: dict[str, Any]) -> dict[str, Any]:
    """Return everything the templates show, as plain values."""
    rows, remarks = metric_table(run)
    rows = [row | {"spread": summary["spread"].get(row["name"])} for row in rows]
    cv, times = run.record.cv, run.record.times
    key_facts = {
        "folds": plain(cv.folds),
        "examples": plain(sum(fold["examples"]["test"] for fold in summary["folds"]) or None),
        "stratified by": cv.stratify,
        "kept together": cv.group,
        "duration": elapsed(times.started, times.finished),
        "seed": plain(run.record.seed),
        "started": moment(times.started),
    }
    return {
        **common_contents(run, rows, remarks, _headline(rows, summary)),
        "summary": summary,
        "metrics": sorted(summary["spread"], key=list(dict.fromkeys([*words.TITLES, *summary["spread"]])).index),
        "key_facts": [(name, str(value)) for name, value in key_facts.items() if value not in (None, "", "–")],
    }


def read_summary(folder: Path) -> dict[str, Any]:
    """Read cross_validation.json; return a summary without folds if it is missing or damaged."""
    try:
        return dict(json.loads((folder / FILE).read_text("utf-8")))
    except (OSError, ValueError):
        return {"folds": [], "spread": {}, "method": "", "level": 0.95}


def _main_metric(names: Collection[str]) -> str:
    return next((name for name in MAIN_METRICS if name in names), "loss")


def _headline(rows: list[Row], summary: dict[str, Any]) -> tuple[str, str]:
    by_name = {row["name"]: row for row in rows if row["spread"]}
    row = by_name.get(_main_metric(by_name))
    if row is None:
        return "Not every fold is done, so there is no result yet.", "open"
    spread, count = row["spread"], len(summary["folds"])
    text = f"{row['title']} {words.number(spread['mean'])} ± {words.number(spread['deviation'])} over {count} folds"
    text += f", 95 % interval of the mean{words.bounds_text(spread)}"
    if row["base"] is not None:
        text += f"; base model {words.number(row['base'])}"
    return f"{text}.", {"better": "good", "worse": "bad"}.get(row["verdict"] or "", "open")
