"""The parts of a report that show the rows of its score tables: classes, calls and examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from kamerton.decide.compare.calls import calls_by_function, confused_text
from kamerton.decide.compare.examples import SHOWN, browsed, changed, is_right, worst
from kamerton.decide.report.run_files import RunFiles
from kamerton.errors import UserError
from kamerton.report import charts
from kamerton.report.pages import sentence
from kamerton.score.call_metrics import has_calls
from kamerton.score.columns import is_labelled
from kamerton.score.intervals import joined
from kamerton.score.label_metrics import confusion, per_class
from kamerton.score.preferences import is_preference

if TYPE_CHECKING:
    import plotly.graph_objects as go


def class_table(run: RunFiles) -> dict[str, Any]:
    """Return the per-class table and the most frequent confusions, or the reason why they are `absent`."""
    if run.tuned is None:
        return {"absent": sentence(run.no_scores)}
    if not is_labelled(run.tuned):
        return {"absent": "The test examples have no labels, so there are no classes to compare."}
    labels, matrix = confusion(run.tuned)
    errors = np.where(np.eye(len(labels), dtype=bool), 0, matrix)
    order = np.argsort(-errors, axis=None, kind="stable")[:SHOWN]
    pairs = [divmod(int(cell), len(labels)) for cell in order if errors.flat[cell]]
    confused = [{"true": labels[i], "predicted": labels[j], "count": int(matrix[i, j])} for i, j in pairs]
    return {"rows": per_class(run.tuned), "confused": confused}


def call_table(run: RunFiles) -> dict[str, Any]:
    """Return the calls by function, with the number that the base model got right; {} for data without functions."""
    if run.tuned is None or not (rows := calls_by_function(run.tuned)):
        return {}
    base = {} if run.base is None else {row["function"]: row["right"] for row in calls_by_function(run.base)}
    return {
        "calls": [
            row
            | {"instead": confused_text(row["confused"])}
            | ({"base_right": base.get(row["function"], 0)} if base else {})
            for row in rows
        ]
    }


def example_lists(run: RunFiles) -> dict[str, Any]:
    """Return the worst examples and the changes against the base model, or the reasons why they are absent."""
    if run.tuned is None:
        return {"absent": sentence(run.no_scores)}
    values: dict[str, Any] = {
        "wrong": int((~is_right(run.tuned)).sum()),
        "total": run.tuned.num_rows,
        "worst": worst(run.tuned),
        "labelled": is_labelled(run.tuned) or has_calls(run.tuned) or is_preference(run.tuned),
    }
    if run.base is None:
        reason = sentence(run.absent["scores/base.parquet"])
        return values | {"changed_absent": reason, "browsed": browsed(None, run.tuned)}
    try:
        base, tuned = joined(run.base, run.tuned)
    except UserError:
        reason = "The two score tables do not contain the same examples."
        return values | {"changed_absent": reason, "browsed": browsed(None, run.tuned)}
    return values | changed(base, tuned) | {"browsed": browsed(base, tuned)}


def confusion_figure(table: pa.Table | None) -> go.Figure | None:
    """Return the confusion matrix of a score table as a figure; None without labels."""
    if table is None or not is_labelled(table):
        return None
    return charts.confusion_heatmap(*confusion(table))
