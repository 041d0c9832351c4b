"""How good did it become: the metric table of base against tuned, and one honest sentence about it."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pyarrow as pa

from kamerton.decide.run_files import RunFiles
from kamerton.decide.statistics import intervals, paired_differences
from kamerton.errors import UserError
from kamerton.score.metrics import LOWER_IS_BETTER, compute, is_labelled

TITLES = {
    "accuracy": "Accuracy",
    "f1": "F1 (macro)",
    "precision": "Precision (macro)",
    "recall": "Recall (macro)",
    "loss": "Loss",
    "perplexity": "Perplexity",
    "token_accuracy": "Token accuracy",
    "ece": "Calibration error",
}
FEW_EXAMPLES = 30

Row = dict[str, Any]


def metric_table(run: RunFiles) -> tuple[list[Row], list[str]]:
    """One row per metric of the test split `{name, title, base, tuned, …_interval, change, verdict}`, and remarks.

    Numbers come from the score tables, else from run.json (then without intervals); a disagreement is a remark.
    """
    remarks: list[str] = []
    recorded = run.record.get("metrics") or {}
    sides = {
        "base": _side(run.base, recorded.get("base"), "base", remarks),
        "tuned": _side(run.tuned, recorded.get("test"), "test", remarks),
    }
    changes: dict[str, Any] = {}
    if run.base is not None and run.tuned is not None:
        try:
            changes = dict(paired_differences(run.base, run.tuned))
        except UserError as error:
            remarks.append(f"No difference can be given: {'; '.join(fault.message for fault in error.faults)}.")
    names = [name for name in TITLES if any(side["point"].get(name) is not None for side in sides.values())]
    return [_row(name, sides, changes.get(name)) for name in names], remarks


def _side(table: pa.Table | None, recorded: Any, split: str, remarks: list[str]) -> Row:
    """Point values and intervals of one model."""
    recorded = recorded if isinstance(recorded, dict) else {}
    if table is None:
        return {"point": recorded, "intervals": {}}
    point = compute(table)
    for name, value in point.items():
        written = recorded.get(name)
        if isinstance(written, float) and value is not None and not math.isclose(written, value, rel_tol=1e-4):
            remarks.append(f"run.json says {split} {name} {written:.6g}; the score table gives {value:.6g}, shown here.")
    return {"point": point, "intervals": intervals(table)}


def _row(name: str, sides: dict[str, Row], change: Any) -> Row:
    row = {"name": name, "title": TITLES[name], "change": change, "verdict": _verdict(name, change)}
    for side, values in sides.items():
        row |= {side: values["point"].get(name), f"{side}_interval": values["intervals"].get(name)}
    return row


def _verdict(name: str, change: Any) -> str | None:
    """better, worse, or unclear when the interval holds zero."""
    if change is None:
        return None
    if change["low"] <= 0 <= change["high"]:
        return "unclear"
    return "better" if (change["low"] > 0) != (name in LOWER_IS_BETTER) else "worse"


def headline(run: RunFiles, rows: list[Row]) -> tuple[str, str]:
    """The sentence that answers "how good did it become", and its tone: good, bad or open."""
    known = {row["name"]: row for row in rows if row["tuned"] is not None}
    row = known.get("accuracy") or known.get("loss")
    if row is None:
        return _without_test(run)
    count = f" on {run.tuned.num_rows:,} test examples" if run.tuned is not None else " on the test split"
    name, tuned = row["title"], number(row["tuned"])
    if row["base"] is None:
        return f"{name} {tuned}{span(row['tuned_interval'])}{count}; the base model was not scored.", "open"
    values = f"{name.lower()} {number(row['base'])} → {tuned}{count}"
    if row["change"] is None:
        return f"{values[0].upper()}{values[1:]}; whether the difference is chance cannot be said.", "open"
    values += f", difference {signed(row['change']['difference'])}{span(row['change'])}"
    if row["verdict"] == "better":
        return f"Better than the base model: {values}.", "good"
    if row["verdict"] == "worse":
        return f"Worse than the base model: {values}.", "bad"
    return f"No clear change from the base model: {values}; the difference may be chance.", "open"


def _without_test(run: RunFiles) -> tuple[str, str]:
    metrics = run.record.get("metrics") or {}
    for split in ("best", "validation"):
        loss = (metrics.get(split) or {}).get("loss")
        if loss is not None:
            return f"There is no test result yet; the {split} validation loss is {number(loss)}.".replace(
                "the validation validation", "the last validation"
            ), "open"
    return "There is no test result, so nothing can be said about how good the model is.", "open"


def cautions(run: RunFiles, rows: list[Row]) -> list[str]:
    """What a careful reader should know before quoting the headline."""
    found: list[str] = []
    if run.tuned is None:
        return found
    known = {row["name"]: row for row in rows}
    if run.tuned.num_rows < FEW_EXAMPLES:
        found.append(f"Only {run.tuned.num_rows} test examples: the intervals are too narrow to be trusted.")
    if is_labelled(run.tuned):
        found += _against_majority(run.tuned, known["accuracy"]["tuned"])
        if known["accuracy"]["verdict"] == "better" and known["loss"]["verdict"] == "worse":
            found.append("More answers are right, but the loss of the reference answers rose: check the calibration.")
    return found


def _against_majority(table: pa.Table, accuracy: float | None) -> list[str]:
    """Compare with always giving the most frequent label."""
    labels = Counter(label for label in table["label"].to_pylist() if label is not None)
    if not labels or accuracy is None:
        return []
    label, count = labels.most_common(1)[0]
    share = count / labels.total()
    always = f"always answering “{label}” would reach {number(share)}"
    if accuracy <= share:
        return [f"The model is no better than a constant: {always}."]
    return [f"For comparison, {always}."]


def number(value: float | None) -> str:
    """Three decimals below ten, else four significant digits with thousands separators; – for None."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:.3f}" if abs(value) < 10 else f"{value:,.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"
    return text.replace("-", "−")


def signed(value: float) -> str:
    """A difference with its sign."""
    return f"+{number(value)}" if value > 0 else number(value)


def span(bounds: Any) -> str:
    """` [low, high]`, empty for None."""
    if bounds is None:
        return ""
    low, high = (bounds["low"], bounds["high"]) if isinstance(bounds, dict) else bounds
    return f" [{number(low)}, {number(high)}]"
