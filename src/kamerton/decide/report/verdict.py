"""A report's headline, its comparison with a model that learnt nothing, and its cautions."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from kamerton.decide.compare.calls import unjudged
from kamerton.decide.compare.significance import FEW_EXAMPLES
from kamerton.decide.report.metric_tables import Row
from kamerton.decide.report.pairs import length_sentence, pair_cautions
from kamerton.decide.report.run_files import RunFiles
from kamerton.direction import REWARD
from kamerton.score.columns import is_labelled
from kamerton.score.metrics import compute
from kamerton.score.preferences import rows_word
from kamerton.words import bounds_text, number, signed

if TYPE_CHECKING:
    from kamerton.decide.compare.other_scoring import BetterScoring

_DECIDING = (
    "accuracy",
    REWARD,
    "call_exact",
    "preference_accuracy",
    "margin",
    "loss",
)  # the first available one decides


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
        few = f"Only {count} test {rows_word(run.tuned)}: the intervals are too narrow"
        texts.append(f"{few}; test on {FEW_EXAMPLES} or more.")
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
