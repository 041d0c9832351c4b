"""Metrics of a scores table against plain formulas, for any table."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torchmetrics.functional import classification as tm

from kamerton.score.columns import label_probabilities, labels_of
from kamerton.score.label_metrics import NO_LABEL, confusion, per_class
from kamerton.score.metrics import compute
from kamerton.score.table import scores_table

LABELS = ["yes", "no", "perhaps", "never"]
NO_ANSWER = {
    "label": "yes",
    "predicted_label": None,
    "label_logprobs": [0.0, 0.0, 0.0, 0.0],
    "nll": 0.0,
    "target_tokens": 1,
    "correct_tokens": 0,
}


def table(rows: list[dict[str, Any]], labels: list[str] | None = LABELS) -> pa.Table:
    tokens = {"nll": 1.0, "target_tokens": 2, "correct_tokens": 1}
    return scores_table([tokens | row for row in rows], labels)


def answers(*pairs: tuple[str | None, str | None]) -> pa.Table:
    return table([{"label": label, "predicted_label": guess} for label, guess in pairs])


@st.composite
def tables(draw: st.DrawFn, *, misses: bool = True) -> list[dict[str, Any]]:
    """Return rows of a classification; with `misses`, some answers are not labels."""
    logprob = st.floats(-30, 0, allow_nan=False)
    rows = []
    for _ in range(draw(st.integers(1, 40))):
        targets = draw(st.integers(1, 9))
        logprobs = draw(st.lists(logprob, min_size=4, max_size=4))
        guess = draw(st.sampled_from([*LABELS, None])) if misses else LABELS[int(np.argmax(logprobs))]
        rows.append(
            {
                "label": draw(st.sampled_from(LABELS)),
                "predicted_label": guess,
                "label_logprobs": logprobs,
                "nll": draw(st.floats(0, 50)),
                "target_tokens": targets,
                "correct_tokens": draw(st.integers(0, targets)),
            }
        )
    return rows


def off_the_edges(rows: list[dict[str, Any]]) -> bool:
    """Return whether no probability lies on the edge of two bins, where rounding would decide."""
    weights = np.exp(np.array([row["label_logprobs"] for row in rows]))
    position = 15 * weights / weights.sum(axis=1, keepdims=True)
    inner = position[(position > 0.5) & (position < 14.5)]
    return bool((np.abs(inner - np.round(inner)) > 1e-9).all())


@given(tables())
@settings(max_examples=60, deadline=None)
def test_token_metrics_weigh_every_token_alike(rows: list[dict[str, Any]]) -> None:
    values = compute(table(rows))
    tokens = sum(row["target_tokens"] for row in rows)
    loss = sum(row["nll"] for row in rows) / tokens
    assert values["loss"] == pytest.approx(loss, rel=1e-12)
    assert values["perplexity"] == pytest.approx(math.exp(loss), rel=1e-12)
    assert values["token_accuracy"] == pytest.approx(sum(row["correct_tokens"] for row in rows) / tokens, rel=1e-12)


def macro_by_hand(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Textbook definitions, one label at a time, over the labels that occur or are predicted."""
    pairs = [(row["label"], row["predicted_label"]) for row in rows]
    scores: dict[str, list[float]] = {"precision": [], "recall": [], "f1": []}
    for label in LABELS:
        hits = sum(truth == guess == label for truth, guess in pairs)
        support = sum(truth == label for truth, _ in pairs)
        predicted = sum(guess == label for _, guess in pairs)
        if support or predicted:
            scores["precision"].append(hits / predicted if predicted else 0.0)
            scores["recall"].append(hits / support if support else 0.0)
            scores["f1"].append(2 * hits / (support + predicted))
    accuracy = sum(truth == guess for truth, guess in pairs) / len(pairs)
    return {"accuracy": accuracy, **{name: sum(part) / len(part) for name, part in scores.items()}}


@given(tables())
@example([NO_ANSWER])
@settings(max_examples=60, deadline=None)
def test_label_metrics_follow_their_definitions(rows: list[dict[str, Any]]) -> None:
    values = compute(table(rows))
    for name, expected in macro_by_hand(rows).items():
        assert values[name] == pytest.approx(expected, abs=1e-12), name


@given(tables(misses=False))
@settings(max_examples=40, deadline=None)
def test_label_metrics_are_those_of_torchmetrics(rows: list[dict[str, Any]]) -> None:
    values = compute(table(rows))
    truth = torch.tensor([LABELS.index(row["label"]) for row in rows])
    logprobs = torch.tensor([row["label_logprobs"] for row in rows], dtype=torch.float64)
    guess = logprobs.argmax(1)
    assert values["accuracy"] == pytest.approx(float(tm.multiclass_accuracy(guess, truth, 4, "micro")), abs=1e-6)
    assert values["f1"] == pytest.approx(float(tm.multiclass_f1_score(guess, truth, 4)), abs=1e-6)
    for average in ("micro", "weighted"):
        expected = float(tm.multiclass_f1_score(guess, truth, 4, average))
        assert values[f"f1_{average}"] == pytest.approx(expected, abs=1e-6)
    assert values["precision"] == pytest.approx(float(tm.multiclass_precision(guess, truth, 4)), abs=1e-6)
    assert values["recall"] == pytest.approx(float(tm.multiclass_recall(guess, truth, 4)), abs=1e-6)


@given(tables(misses=False))
@settings(max_examples=60, deadline=None)
def test_calibration_error_is_the_mean_gap_over_fifteen_bins(rows: list[dict[str, Any]]) -> None:
    bins: dict[int, list[tuple[float, bool]]] = {}
    assume(off_the_edges(rows))
    for row in rows:
        weights = np.exp(np.array(row["label_logprobs"]) - max(row["label_logprobs"]))
        confidence = float(weights.max() / weights.sum())
        right = row["predicted_label"] == row["label"]
        bins.setdefault(min(int(confidence * 15), 14), []).append((confidence, right))
    gaps = [abs(sum(c for c, _ in part) - sum(r for _, r in part)) for part in bins.values()]
    assert compute(table(rows))["ece"] == pytest.approx(sum(gaps) / len(rows), abs=1e-9)
    every = [pair for part in bins.values() for pair in part]
    confidences = torch.tensor([confidence for confidence, _ in every], dtype=torch.float64)
    peer = tm.binary_calibration_error(confidences, torch.tensor([int(right) for _, right in every]), n_bins=15)
    assert compute(table(rows))["ece"] == pytest.approx(float(peer), abs=1e-6)


@given(tables(), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_row_order_and_label_order_change_no_metric(rows: list[dict[str, Any]], random: Any) -> None:
    assume(off_the_edges(rows))
    before = defined(table(rows))
    order = random.sample(range(4), 4)
    shuffled = [row | {"label_logprobs": [row["label_logprobs"][i] for i in order]} for row in rows]
    random.shuffle(shuffled)
    after = defined(table(shuffled, [LABELS[i] for i in order]))
    assert after == pytest.approx(before, rel=1e-9)


def defined(scores: Any) -> dict[str, float]:
    """The metrics that are defined: pytest compares no None approximately."""
    return {name: value for name, value in compute(scores).items() if value is not None}


def test_certain_answers_fall_into_the_last_bin() -> None:
    sure = {"predicted_label": "yes", "label_logprobs": [0.0, -800.0, -800.0, -800.0]}
    nearly = {"predicted_label": "yes", "label_logprobs": [math.log(0.98), *[math.log(0.02 / 3)] * 3]}
    rows = [sure | {"label": "no"}, nearly | {"label": "yes"}]
    assert compute(table(rows))["ece"] == pytest.approx(abs((1 + 0.98) / 2 - 0.5))


def test_unlabelled_tables_have_token_metrics_only() -> None:
    assert set(compute(table([{}, {}], labels=None))) == {"loss", "perplexity", "token_accuracy"}


def test_labels_without_log_probabilities_have_no_calibration_error() -> None:
    assert compute(answers(("yes", "yes")))["ece"] is None


def test_an_empty_table_is_undefined_and_fit_for_json() -> None:
    values = compute(table([]))
    assert values == {"loss": None, "perplexity": None, "token_accuracy": None}
    assert per_class(table([])) == [
        {"label": label, "precision": None, "recall": None, "f1": None, "support": 0} for label in LABELS
    ]


@pytest.mark.parametrize("nll", [math.nan, math.inf, 5000.0])
def test_numbers_that_are_not_finite_become_none(nll: float) -> None:
    values = compute(table([{"nll": nll, "target_tokens": 1}]))
    assert values["perplexity"] is None
    json.dumps(values, allow_nan=False)


def test_a_class_without_support_or_predictions_is_none_and_left_out_of_the_mean() -> None:
    scored = answers(("yes", "yes"), ("yes", "no"))
    rows = {row["label"]: row for row in per_class(scored)}
    assert rows["yes"] == {"label": "yes", "precision": 1.0, "recall": 0.5, "f1": 2 / 3, "support": 2}
    assert rows["no"] == {"label": "no", "precision": 0.0, "recall": None, "f1": 0.0, "support": 0}
    assert rows["never"] == {"label": "never", "precision": None, "recall": None, "f1": None, "support": 0}
    assert compute(scored)["recall"] == pytest.approx((0.5 + 0.0) / 2)


def test_a_single_class_is_perfect_or_not() -> None:
    assert compute(answers(("yes", "yes"), ("yes", "yes")))["f1"] == 1.0
    assert compute(answers(("yes", None), ("yes", "yes")))["accuracy"] == 0.5


def test_confusion_counts_true_by_predicted() -> None:
    labels, matrix = confusion(answers(("yes", "no"), ("yes", "no"), ("no", "no"), (None, "no")))
    assert labels == LABELS
    assert matrix.tolist() == [[0, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_answers_outside_the_labels_have_their_own_column() -> None:
    labels, matrix = confusion(answers(("no", None), ("no", "no")))
    assert labels == [*LABELS, NO_LABEL]
    assert matrix[1].tolist() == [0, 1, 0, 0, 1]
    assert matrix.shape == (5, 5)
    assert matrix.sum() == 2


def test_labels_come_from_the_metadata_and_unknown_ones_are_added() -> None:
    assert labels_of(answers(("yes", "zebra"), ("ant", "yes"))) == [*LABELS, "ant", "zebra"]
    assert labels_of(table([{"label": "b", "predicted_label": "a"}], labels=None)) == ["a", "b"]


def test_a_wrong_number_of_log_probabilities_is_refused() -> None:
    scored = table([{"label": "yes", "predicted_label": "yes", "label_logprobs": [-1.0, -2.0]}])
    with pytest.raises(ValueError, match="one log-probability per label"):
        label_probabilities(scored)


def test_answers_that_are_not_labels_are_wrong() -> None:
    assert compute(answers(("yes", None), ("no", None)))["accuracy"] == 0
