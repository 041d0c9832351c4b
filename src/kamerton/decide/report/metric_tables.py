"""The tables of metrics in a report: those of the base and the tuned model, and those of the baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from kamerton.decide.report.run_files import RunFiles
from kamerton.direction import PAIR_DETAILS, PAIR_METRICS, REWARD
from kamerton.errors import UserError
from kamerton.score.baselines import SOURCE
from kamerton.score.intervals import intervals, paired_differences
from kamerton.score.metrics import compute, lower_is_better
from kamerton.score.preferences import main_metric, shown_metrics
from kamerton.words import TITLES

Row = dict[str, Any]


def metric_table(run: RunFiles) -> tuple[list[Row], list[str]]:
    """Return one row per metric of the test split, and remarks.

    A row is `{name, shown, title, base, tuned, base_interval, tuned_interval, change, verdict, lower_is_better}`.
    Numbers come from the score tables, otherwise from run.json (without intervals); a remark reports values that
    differ.
    """
    remarks: list[str] = []
    recorded = run.record.metrics
    models = {
        "base": _model_metrics(run.base, recorded.get(run.scored_base, {}), run.scored_base, remarks),
        "tuned": _model_metrics(run.tuned, recorded.get(run.scored, {}), run.scored, remarks),
    }
    changes: dict[str, Any] = {}
    if run.base is not None and run.tuned is not None:
        try:
            changes = dict(paired_differences(run.base, run.tuned))
        except UserError as error:
            reasons = "; ".join(fault.message for fault in error.faults)
            remarks.append(f"No difference can be given: {reasons}.")
    lower = lower_is_better(run.base, run.tuned)
    rows = []
    names = list(dict.fromkeys([*TITLES, *(name for model in models.values() for name in model["point"])]))
    parts = [name for name in names if name.startswith(f"{REWARD}_") and name not in TITLES]
    behind = names.index(REWARD) + 1  # the rewards by name follow their sum
    ordered = [*names[:behind], *parts, *(name for name in names[behind:] if name not in parts)]
    for name, shown in shown_metrics(run.tuned, ordered).items():
        if not any(isinstance(model["point"].get(name), int | float) for model in models.values()):
            continue
        change = changes.get(name)
        row = {
            "name": name,
            "shown": shown,
            "title": TITLES.get(name, name) if shown == name else "Loss of chosen completions",
            "change": change,
            "verdict": None if name in PAIR_DETAILS else _verdict(change, lower=name in lower),
            "lower_is_better": name in lower - PAIR_DETAILS,
        }
        for model, values in models.items():
            row |= {model: values["point"].get(name), f"{model}_interval": values["intervals"].get(name)}
        rows.append(row)
    return rows, remarks


def _model_metrics(table: pa.Table | None, recorded: Mapping[str, float], split: str, remarks: list[str]) -> Row:
    """Return a model's metrics (`point`) with `intervals`; adds a remark for each that differs from the record."""
    if table is None:
        return {"point": recorded, "intervals": {}}
    point = compute(table)
    for name, value in point.items():
        value_on_record = recorded.get(name)
        if not isinstance(value_on_record, float) or value is None:
            continue
        if not math.isclose(value_on_record, value, rel_tol=1e-4):
            difference = f"run.json has {split} {name} {value_on_record:.6g}, the score table {value:.6g}"
            remarks.append(f"{difference}; the latter is shown here.")
    return {"point": point, "intervals": intervals(table)}


def _verdict(change: Any, *, lower: bool) -> str | None:
    """Return better, worse, same (on every example), or unclear if the interval contains zero."""
    if change is None:
        return None
    if change["low"] == change["high"] == 0:
        return "same"
    if change["low"] <= 0 <= change["high"]:
        return "unclear"
    return "better" if (change["low"] > 0) != lower else "worse"


def baseline_table(run: RunFiles) -> list[Row]:
    """Return one row per model on the test split, the tuned one last; empty without baselines or tuned score table.

    A row is `{name, title, metrics, change, verdict}`; `change` is the paired difference tuned minus the row's model in
    the main metric of the table (accuracy, or the loss of unlabelled data).
    """
    if run.tuned is None or not run.baselines:
        return []
    metric = main_metric(run.tuned)
    baselines = {**run.baselines, **({} if run.base is None else {"base": run.base})}
    rows: list[Row] = []
    for name, table in baselines.items():
        try:
            change = paired_differences(table, run.tuned).get(metric)
        except UserError:  # the tables have different examples
            change = None
        verdict = _verdict(change, lower=metric in lower_is_better(table, run.tuned))
        if name == "majority":
            title = f"always “{table['predicted_label'][0]}”"
        else:
            source = (table.schema.metadata or {}).get(SOURCE, b"").decode()
            titles = {"tfidf": "TF-IDF, linear", "previous": f"best before, {source}", "base": "base model"}
            title = titles[name]
        rows.append({"name": name, "title": title, "metrics": compute(table), "change": change, "verdict": verdict})
    rows.append({"name": "tuned", "title": "this run", "metrics": compute(run.tuned), "change": None, "verdict": None})
    return rows


def baseline_metrics(rows: list[Row], of_labels: tuple[str, ...], of_texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the metrics to show of `baseline_table`: those of labels, rewards, preferences or texts."""
    metrics = rows[-1]["metrics"] if rows else {}
    if metrics.get("accuracy") is not None:
        return of_labels
    if REWARD in metrics:
        return (REWARD, "exact_match", "loss")
    return tuple(name for name in PAIR_METRICS if name in metrics) or of_texts
