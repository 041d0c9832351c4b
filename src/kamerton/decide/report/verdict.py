"""How good did it become: the metric table of base against tuned, and one honest sentence about it."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from kamerton.decide.compare.significance import FEW_EXAMPLES
from kamerton.decide.report.run_files import RunFiles
from kamerton.errors import UserError
from kamerton.score.baselines import SOURCE
from kamerton.score.columns import is_labelled
from kamerton.score.intervals import intervals, paired_differences
from kamerton.score.metrics import compute, lower_is_better
from kamerton.words import TITLES, bounds_text, number, signed

if TYPE_CHECKING:
    from kamerton.decide.compare.other_scoring import BetterScoring


Row = dict[str, Any]


def metric_table(run: RunFiles) -> tuple[list[Row], list[str]]:
    """One row per metric of the test split, and remarks.

    A row is `{name, title, base, tuned, base_interval, tuned_interval, change, verdict, lower_is_better}`. Numbers
    come from the score tables, else from run.json (then without intervals); where the two disagree, a remark says so.
    """
    remarks: list[str] = []
    recorded = run.record.get("metrics") or {}
    sides = {
        "base": _side(run.base, recorded.get("base"), "base", remarks),
        "tuned": _side(run.tuned, recorded.get(run.scored), run.scored, remarks),
    }
    changes: dict[str, Any] = {}
    if run.base is not None and run.tuned is not None:
        try:
            changes = dict(paired_differences(run.base, run.tuned))
        except UserError as error:
            reasons = "; ".join(fault.message for fault in error.faults)
            remarks.append(f"No difference can be given: {reasons}.")
    named = dict.fromkeys([*TITLES, *(name for side in sides.values() for name in side["point"])])
    known = [name for name in named if any(_is_number(side["point"].get(name)) for side in sides.values())]
    lower = lower_is_better(run.base, run.tuned)
    return [_row(name, sides, changes.get(name), lower=name in lower) for name in known], remarks


def _side(table: pa.Table | None, recorded: Any, split: str, remarks: list[str]) -> Row:
    """Point values and intervals of one model."""
    recorded = recorded if isinstance(recorded, dict) else {}
    if table is None:
        return {"point": recorded, "intervals": {}}
    point = compute(table)
    for name, value in point.items():
        written = recorded.get(name)
        if isinstance(written, float) and value is not None and not math.isclose(written, value, rel_tol=1e-4):
            says = f"run.json says {split} {name} {written:.6g}"
            remarks.append(f"{says}; the score table gives {value:.6g}, which is shown here.")
    return {"point": point, "intervals": intervals(table)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _row(name: str, sides: dict[str, Row], change: Any, *, lower: bool) -> Row:
    row = {"name": name, "title": TITLES.get(name, name), "change": change, "verdict": _verdict(change, lower=lower)}
    row["lower_is_better"] = lower
    for side, values in sides.items():
        row |= {side: values["point"].get(name), f"{side}_interval": values["intervals"].get(name)}
    return row


def _verdict(change: Any, *, lower: bool) -> str | None:
    """better, worse, same (on every example), or unclear when the interval holds zero."""
    if change is None:
        return None
    if change["low"] == change["high"] == 0:
        return "same"
    if change["low"] <= 0 <= change["high"]:
        return "unclear"
    return "better" if (change["low"] > 0) != lower else "worse"


def baseline_table(run: RunFiles) -> list[Row]:
    """One row per model on the test split, the tuned one last, with its difference to each other in accuracy or loss.

    A row is `{name, title, metrics, change, verdict}`; `change` is tuned minus the row's model, paired. Empty where no
    baseline is known, or where the tuned model has no score table.
    """
    if run.tuned is None or not run.baselines:
        return []
    metric = "accuracy" if is_labelled(run.tuned) else "loss"
    others = {**run.baselines, **({} if run.base is None else {"base": run.base})}
    rows = [_against(name, table, run.tuned, metric) for name, table in others.items()]
    tuned = {"name": "tuned", "title": "this run", "metrics": compute(run.tuned), "change": None, "verdict": None}
    return [*rows, tuned]


def _against(name: str, table: pa.Table, tuned: pa.Table, metric: str) -> Row:
    try:
        change = paired_differences(table, tuned).get(metric)
    except UserError:  # other examples
        change = None
    title = _title(name, table)
    return {
        "name": name,
        "title": title,
        "metrics": compute(table),
        "change": change,
        "verdict": _verdict(change, lower=metric in lower_is_better(table, tuned)),
    }


def _title(name: str, table: pa.Table) -> str:
    if name == "majority":
        return f"always “{table['predicted_label'][0]}”"
    run = (table.schema.metadata or {}).get(SOURCE, b"").decode()
    return {"tfidf": "TF-IDF, linear", "previous": f"best before, {run}", "base": "base model"}[name]


def headline(run: RunFiles, rows: list[Row]) -> tuple[str, str]:
    """The sentence that answers "how good did it become", and its tone: good, bad or open.

    Where the same score table gives far better answers by another way of scoring, a second sentence says so.
    """
    text, tone = _headline(run, rows)
    other = _otherwise(run)
    if other is None:
        return text, tone
    way, share = other.best, number(other.others[other.best])
    return f"{text} On the same rows {way} gives accuracy {share}.", "good" if tone == "good" else "open"


def _otherwise(run: RunFiles) -> BetterScoring | None:
    from kamerton.decide.compare.other_scoring import better_scoring  # scipy takes half a second

    return None if run.tuned is None else better_scoring(run.tuned)


def _headline(run: RunFiles, rows: list[Row]) -> tuple[str, str]:
    known = {row["name"]: row for row in rows if row["tuned"] is not None}
    row = known.get("accuracy") or known.get("loss")
    if row is None:
        return _without_test(run), "open"
    count = f" on {run.tuned.num_rows:,} test examples" if run.tuned is not None else " on the test split"
    name, tuned = row["title"], number(row["tuned"])
    if row["base"] is None:
        return f"{name} {tuned}{bounds_text(row['tuned_interval'])}{count}; the base model was not scored.", "open"
    values = f"{number(row['base'])} → {tuned}{count}"
    if row["change"] is None:
        return f"{name} {values}; whether the difference is chance cannot be said.", "open"
    values = f"{name.lower()} {values}, difference {signed(row['change']['difference'])}{bounds_text(row['change'])}"
    if row["verdict"] == "better":
        return f"Better than the base model: {values}.", "good"
    if row["verdict"] == "worse":
        return f"Worse than the base model: {values}.", "bad"
    if row["verdict"] == "same":
        return f"No change from the base model: {name.lower()} {tuned}{count} for both.", "open"
    return f"No clear change from the base model: {values}; the difference may be chance.", "open"


def _without_test(run: RunFiles) -> str:
    metrics = run.record.get("metrics") or {}
    for split, name in (
        ("best", "the validation loss of the best weights"),
        ("validation", "the last validation loss"),
    ):
        loss = (metrics.get(split) or {}).get("loss")
        if loss is not None:
            return f"There is no test result; {name} is {number(loss)}."
    return "There is no test result, so nothing can be said about how good the model is."


def comparison(run: RunFiles, rows: list[Row]) -> str | None:
    """What always giving the most frequent label would reach; None without labels."""
    share = _majority(run)
    if share is None or all(row["name"] != "accuracy" for row in rows):
        return None
    whose = "training" if "majority" in run.baselines else "this test split"
    text = f"always answering “{share[0]}”, the most frequent label of {whose}, would reach accuracy"
    return f"For comparison: {text} {number(share[1])}."


def cautions(run: RunFiles, rows: list[Row]) -> list[str]:
    """What a careful reader should know before quoting the headline."""
    if run.tuned is None:
        return []
    found, count = [], run.tuned.num_rows
    known = {row["name"]: row for row in rows}
    accuracy, loss = known.get("accuracy", {}), known.get("loss", {})
    if count < FEW_EXAMPLES:
        found.append(f"Only {count} test examples: the intervals are too narrow to be trusted.")
    if accuracy.get("tuned") == 1:
        found.append(
            "Every answer is right, so the interval has no width; by the rule of three, up to about "
            f"{number(min(1, 3 / count))} of all answers may still be wrong."
        )
    share = _majority(run)
    is_otherwise_right = _otherwise(run) is not None  # then these two speak of the way of scoring, not of the model
    if share is not None and accuracy and accuracy["tuned"] <= share[1] and not is_otherwise_right:
        found.append("The model is no better than always giving the most frequent label.")
    answers = set(run.tuned["predicted_label"].to_pylist()) - {None}
    has_labels = len(set(run.tuned["label"].to_pylist()) - {None}) > 1
    if has_labels and len(answers) == 1 and not is_otherwise_right:
        found.append(f"The model gives every example the same answer: “{answers.pop()}”.")
    if accuracy.get("verdict") == "better" and loss.get("verdict") == "worse":
        found.append("More answers are right, but the loss of the references rose: check the calibration.")
    return [*found, *_unsound(run)]


def _unsound(run: RunFiles) -> list[str]:
    """What is wrong with the answers themselves; that all are the same has been said."""
    from kamerton.decide.compare.predictions import validate_results  # scipy takes half a second

    result = validate_results(run.tuned, run.path if run.scored == "test" else None)
    faults = [fault for fault in (*result.errors, *result.warnings) if fault.code != "results.collapsed"]
    return [f"{fault.message[:1].upper()}{fault.message[1:]}: {fault.fix}." for fault in faults]


def _majority(run: RunFiles) -> tuple[str, float] | None:
    """The most frequent label and the accuracy of always giving it: the run's baseline, which knows the training split;
    without one, the most frequent label of the test split."""
    kept = run.baselines.get("majority")
    if kept is not None and (accuracy := compute(kept).get("accuracy")) is not None:
        return kept["predicted_label"][0].as_py(), accuracy
    if run.tuned is None or not is_labelled(run.tuned):
        return None
    labels = Counter(label for label in run.tuned["label"].to_pylist() if label is not None)
    if not labels:
        return None
    label, count = labels.most_common(1)[0]
    return label, count / labels.total()
