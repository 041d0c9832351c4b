"""Metrics of a scores table (`kamerton.score.columns`).

All values are float64; undefined values are None, never NaN.

Counts of labels come from torchmetrics, those of texts from `kamerton.score.text`. The ratios are computed here because
torchmetrics divides in float32, and because the bootstrap (`kamerton.score.intervals`) applies the same formulas to
thousands of resamples at once. A column `metric:NAME` holds a custom metric by example, whose value is the mean; the
schema metadata may hold custom metrics of the whole table (`kamerton.score.custom`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kamerton.direction import LOWER_IS_BETTER
from kamerton.score.call_metrics import call_counts, call_metrics, has_calls
from kamerton.score.columns import (
    finite,
    is_generated,
    is_labelled,
    label_indices,
    label_probabilities,
    token_counts,
)
from kamerton.score.judged import has_judgements, judged_counts, judged_metrics, judged_right
from kamerton.score.label_metrics import confusion_counts, label_metrics
from kamerton.score.pairs import has_pairs, pair_counts, pair_metrics, pair_scores
from kamerton.score.text import text_counts, text_metrics, text_scores

ECE_BINS = 15
CUSTOM = "metric:"  # prefix of the columns with custom metrics
CUSTOM_OF_TABLE = b"metrics"  # key in the schema metadata, JSON: {name: {value, low, high}}
CUSTOM_LOWER = b"lower_is_better"  # key in the schema metadata, JSON: [name, …]


def compute(table: pa.Table) -> dict[str, float | None]:
    """Return every metric that the table supports, by name; None if undefined (no rows, no tokens, not finite).

    - Always: `loss` (sum of nll / sum of target tokens, nats), `perplexity` (exp of the loss), `token_accuracy`. They
      are None if a row has no nll (or no correct_tokens), because a mean over the others would be of another set.
    - With labels: `accuracy`, macro `f1`, `precision`, `recall`, `f1_micro`, `f1_weighted` (`label_metrics`), `ece`.
    - With pairs of completions: those of `pairs.pair_metrics`; loss and accuracy are those of the chosen completions.
    - With judged completions: those of `judged.judged_metrics`.
    - With generated texts and no labels: those of `text.text_metrics`, over the contents without reasoning and calls; a
      row without a reference, or whose reference is calls alone, does not count.
    - With generated answers to data with functions: those of `call_metrics.call_metrics`.
    - Custom metrics.
    """
    counts, formulas = summed_counts(table)
    values: dict[str, Any] = {**formulas(counts.sum(axis=0))}
    values |= {name: metric["value"] for name, metric in table_metrics(table).items()}
    if is_labelled(table):
        values |= label_metrics(confusion_counts(table)) | {"ece": expected_calibration_error(table)}
    return {name: finite(value) for name, value in values.items()}


def summed_counts(
    table: pa.Table,
) -> tuple[NDArray[np.float64], Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]]]:
    """Return counts by example, `[rows, counts]`, and the function from their sums, `[..., counts]`, to metrics."""
    parts: list[tuple[NDArray[np.float64], Callable[[Any], dict[str, NDArray[np.float64]]]]] = [
        (np.stack(token_counts(table), axis=-1), lambda sums: token_metrics(*np.moveaxis(sums, -1, 0)))
    ]
    if has_pairs(table):
        parts.append((pair_counts(table), pair_metrics))
    if has_judgements(table):
        parts.append((judged_counts(table), judged_metrics))
    if is_generated(table):
        parts.append((_text_counts(table), text_metrics))
    if has_calls(table):
        parts.append((call_counts(table), call_metrics))
    parts += [_custom_metric(table, column) for column in table.column_names if column.startswith(CUSTOM)]
    edges = np.cumsum([counts.shape[-1] for counts, _ in parts])[:-1]

    def formulas(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        pieces = zip(np.split(sums, edges, axis=-1), parts, strict=True)
        return {name: value for piece, (_, formula) in pieces for name, value in formula(piece).items()}

    return np.concatenate([counts for counts, _ in parts], axis=-1), formulas


def example_scores(table: pa.Table) -> dict[str, NDArray[np.float64]]:
    """Return text metrics of generated answers and custom metrics by example, `[rows]` each."""
    scores = text_scores(_text_counts(table)) if is_generated(table) else {}
    scores |= pair_scores(table) if has_pairs(table) else {}
    if has_judgements(table) and not np.isnan(right := judged_right(table)).any():
        scores["preference_accuracy"] = right
    return {**scores, **{name: table[f"{CUSTOM}{name}"].to_numpy() for name in example_metrics(table)}}


def example_metrics(table: pa.Table) -> list[str]:
    """Return the names of the custom metrics that have a value for each example."""
    return [name.removeprefix(CUSTOM) for name in table.column_names if name.startswith(CUSTOM)]


def _text_counts(table: pa.Table) -> NDArray[np.float64]:
    targets = table["target"].to_pylist()
    counts = text_counts(table["prediction"].to_pylist(), targets)
    counts[[not target for target in targets]] = 0
    return counts


def _custom_metric(
    table: pa.Table, column: str
) -> tuple[NDArray[np.float64], Callable[[Any], dict[str, NDArray[np.float64]]]]:
    """Return counts and formula of a custom metric: the mean over the examples that have a value."""
    values = table[column].to_numpy().astype(np.float64)
    defined = ~np.isnan(values)

    def mean(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return {column.removeprefix(CUSTOM): np.divide(sums[..., 0], sums[..., 1])}

    return np.stack([np.where(defined, values, 0.0), defined], axis=-1), mean


def table_metrics(table: pa.Table) -> dict[str, dict[str, float | None]]:
    """Return the custom metrics of the whole table: `{value, low, high}` by name."""
    return dict(json.loads((table.schema.metadata or {}).get(CUSTOM_OF_TABLE, b"{}")))


def lower_is_better(*tables: pa.Table | None) -> frozenset[str]:
    """Return the names of the metrics for which lower is better, including the custom ones of the tables."""
    schemas = [table.schema.metadata or {} for table in tables if table is not None]
    return LOWER_IS_BETTER.union(*(json.loads(metadata.get(CUSTOM_LOWER, b"[]")) for metadata in schemas))


def token_metrics(nll: Any, targets: Any, correct: Any) -> dict[str, NDArray[np.float64]]:
    """Return loss, perplexity and token accuracy from sums over examples, elementwise for any shape."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        loss = np.divide(nll, targets, dtype=np.float64)
        return {
            "loss": loss,
            "perplexity": np.exp(loss),
            "token_accuracy": np.divide(correct, targets, dtype=np.float64),
        }


def expected_calibration_error(table: pa.Table) -> float | None:
    """Return the expected calibration error: mean gap between confidence and accuracy over 15 equal-width bins.

    Confidence is the probability (softmax over `label_logprobs`) of the predicted label. Rows without label,
    prediction or log-probabilities are left out. Source: Guo et al., On Calibration of Modern Neural
    Networks, 2017.
    """
    return finite(calibration_error(calibration_counts(table).sum(axis=0)))


def calibration_counts(table: pa.Table) -> NDArray[np.float64]:
    """Return the terms of the calibration error by example, `[rows, bins + 1]`.

    The column of a row's confidence bin holds confidence - (1 if correct else 0), the last column 1. Rows without
    label, prediction or log-probabilities are all zero.
    """
    truth, guess = label_indices(table)
    probabilities = label_probabilities(table)
    counts = np.zeros((table.num_rows, ECE_BINS + 1))
    rows = np.flatnonzero((truth >= 0) & (guess >= 0) & (guess < probabilities.shape[1]))
    rows = rows[np.isfinite(probabilities[rows, guess[rows]])]
    confidence = probabilities[rows, guess[rows]]
    edges = np.linspace(0, 1, ECE_BINS + 1)[1:-1]
    counts[rows, np.searchsorted(edges, confidence, side="right")] = confidence - (truth[rows] == guess[rows])
    counts[rows, -1] = 1
    return counts


def calibration_error(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the calibration error from sums of `calibration_counts`, `[..., bins + 1]`; NaN without examples."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.abs(sums[..., :-1]).sum(axis=-1) / sums[..., -1])
