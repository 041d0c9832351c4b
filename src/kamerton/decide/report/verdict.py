"""The metrics of the base and the tuned model, and the report's headline about them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from kamerton.decide.compare.calls import unjudged
from kamerton.decide.compare.significance import FEW_EXAMPLES
from kamerton.decide.report.pairs import length_sentence, pair_cautions
from kamerton.decide.report.run_files import RunFiles
from kamerton.direction import PAIR_DETAILS, PAIR_METRICS, REWARD
from kamerton.errors import UserError
from kamerton.score.baselines import SOURCE
from kamerton.score.columns import is_labelled
from kamerton.score.intervals import intervals, paired_differences
from kamerton.score.metrics import compute, lower_is_better
from kamerton.score.preferences import main_metric, rows_word, shown_metrics
from kamerton.words import TITLES, bounds_text, number, signed

if TYPE_CHECKING:
    from kamerton.decide.compare.other_scoring import BetterScoring


Row = dict[str, Any]

_DECIDING = (
    "accuracy",
    REWARD,
    "call_exact",
    "preference_accuracy",
    "margin",
    "loss",
)  # the first available one decides


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


def headline(run: RunFiles, rows: list[Row]) -> tuple[str, str]:
    """Return a sentence on how good the tuned model is, and its tone: good, bad or open.

    A second sentence reports a scoring method that gives far better answers from the same score table.
    """
    text, tone = _headline(run, rows)
    other = _better_scoring(run)
    if other is None:
        return text, tone
    accuracy = number(other.others[other.best])
    return f"{text} On the same rows {other.best} gives accuracy {accuracy}.", "good" if tone == "good" else "open"


def _better_scoring(run: RunFiles) -> BetterScoring | None:
    from kamerton.decide.compare.other_scoring import better_scoring  # scipy takes half a second

    return None if run.tuned is None else better_scoring(run.tuned)


def _headline(run: RunFiles, rows: list[Row]) -> tuple[str, str]:
    by_name = {row["name"]: row for row in rows if row["tuned"] is not None}
    row = next((by_name[name] for name in _DECIDING if name in by_name), None)
    if row is not None and row["name"] == "preference_accuracy" and row["base"] == row["tuned"] == 1:
        row = by_name["margin"]  # every pair is right before and after
    if row is None:
        metrics = run.record.metrics
        for split, name in (("best", "validation loss of the best weights"), ("validation", "last validation loss")):
            loss = metrics.get(split, {}).get("loss")
            if loss is not None:
                return f"There is no test result; the {name} is {number(loss)}.", "open"
        return "There is no test result, so the quality of the model is unknown.", "open"
    count = f" on {run.tuned.num_rows:,} test {rows_word(run.tuned)}" if run.tuned is not None else " on the test split"
    name, tuned = row["title"], number(row["tuned"])
    if row["base"] is None:
        return f"{name} {tuned}{bounds_text(row['tuned_interval'])}{count}; the base model was not scored.", "open"
    values = f"{number(row['base'])} → {tuned}{count}"
    if row["change"] is None:
        return f"{name} {values}; the significance of the difference is unknown.", "open"
    values = f"{name.lower()} {values}, difference {signed(row['change']['difference'])}{bounds_text(row['change'])}"
    if row["verdict"] == "better":
        return f"Better than the base model: {values}.", "good"
    if row["verdict"] == "worse":
        return f"Worse than the base model: {values}.", "bad"
    if row["verdict"] == "same":
        return f"No change from the base model: {name.lower()} {tuned}{count} for both.", "open"
    return f"No clear change from the base model: {values}; the difference may be chance.", "open"


def comparison(run: RunFiles, rows: list[Row]) -> str | None:
    """Return a sentence on what a model without training would reach; None without labels or pairs.

    It would always answer the most frequent label, or always prefer the longer completion.
    """
    if run.tuned is not None and (text := length_sentence(run.tuned)):
        return text
    majority = _majority(run)
    if majority is None or all(row["name"] != "accuracy" for row in rows):
        return None
    label, accuracy = majority
    split = "training" if "majority" in run.baselines else "this test split"
    text = f"always answering “{label}”, the most frequent label of {split}, would reach accuracy"
    return f"For comparison: {text} {number(accuracy)}."


def cautions(run: RunFiles, rows: list[Row]) -> list[str]:
    """Return caveats about the headline: few examples, trivial or defective answers, worse calibration."""
    if run.tuned is None:
        return []
    from kamerton.decide.compare.predictions import validate_results  # scipy takes half a second

    texts, count = [], run.tuned.num_rows
    if text := unjudged(run.tuned):
        texts.append(text)
    by_name = {row["name"]: row for row in rows}
    accuracy, loss = by_name.get("accuracy", {}), by_name.get("loss", {})
    if count < FEW_EXAMPLES:
        texts.append(f"Only {count} test {rows_word(run.tuned)}: the intervals are too narrow.")
    texts += pair_cautions(run.tuned, by_name, has_task=run.task is not None)
    if accuracy.get("tuned") == 1:
        texts.append(
            "Every answer is right, so the interval has no width; by the rule of three, up to about "
            f"{number(min(1, 3 / count))} of all answers may still be wrong."
        )
    majority = _majority(run)
    scoring_at_fault = _better_scoring(run) is not None  # the next two cautions are about the model
    if majority is not None and accuracy and accuracy["tuned"] <= majority[1] and not scoring_at_fault:
        texts.append("The model is no better than always giving the most frequent label.")
    answers = set(run.tuned["predicted_label"].to_pylist()) - {None}
    has_labels = len(set(run.tuned["label"].to_pylist()) - {None}) > 1
    if has_labels and len(answers) == 1 and not scoring_at_fault:
        texts.append(f"The model gives every example the same answer: “{answers.pop()}”.")
    if accuracy.get("verdict") == "better" and loss.get("verdict") == "worse":
        texts.append("More answers are right, but the loss of the references rose: check the calibration.")
    result = validate_results(run.tuned, run.path if run.scored == "test" else None)
    for fault in (*result.errors, *result.warnings):
        if fault.code != "results.collapsed":  # reported above
            texts.append(f"{fault.message[:1].upper()}{fault.message[1:]}: {fault.fix}.")
    return texts


def _majority(run: RunFiles) -> tuple[str, float] | None:
    """Return the most frequent label and the accuracy of always answering it; None without labels.

    From the run's majority baseline (the most frequent training label), otherwise from the labels of the test split.
    """
    baseline = run.baselines.get("majority")
    if baseline is not None and (accuracy := compute(baseline).get("accuracy")) is not None:
        return baseline["predicted_label"][0].as_py(), accuracy
    if run.tuned is None or not is_labelled(run.tuned):
        return None
    labels = Counter(label for label in run.tuned["label"].to_pylist() if label is not None)
    if not labels:
        return None
    label, count = labels.most_common(1)[0]
    return label, count / labels.total()
