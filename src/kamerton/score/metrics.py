"""Metrics of a scores table: what a model's answers on one set of examples are worth.

A scores table has one row per example (`example_id, prompt, target, prediction, label, predicted_label,
label_logprobs, nll, target_tokens, correct_tokens, metadata`); its schema metadata may name the task's labels
under `b"labels"` (a JSON list, the order of `label_logprobs`). Everything is float64; what is undefined is
None, never NaN.

Counts come from torchmetrics. The ratios are taken here because torchmetrics divides in float32, and because
the bootstrap (`kamerton.decide.statistics`) needs the very same formulas for thousands of resamples at once.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

NO_LABEL = "(no label)"
"""The predicted class of an answer that is none of the labels."""
ECE_BINS = 15
LOWER_IS_BETTER = frozenset({"loss", "perplexity", "ece"})


def compute(table: pa.Table) -> dict[str, float | None]:
    """Every metric that the table supports, by name; None where undefined (no rows, no tokens, not finite).

    Always: `loss` (sum of nll / sum of target tokens, nats), `perplexity` (exp of it), `token_accuracy`.
    With labels also `accuracy`, macro `f1`, `precision`, `recall` (see `label_metrics`) and `ece`.
    """
    values: dict[str, Any] = token_metrics(*(column.sum() for column in token_counts(table)))
    if is_labelled(table):
        values |= label_metrics(_confusion_counts(table)) | {"ece": expected_calibration_error(table)}
    return {name: _finite(value) for name, value in values.items()}


def token_metrics(nll: Any, targets: Any, correct: Any) -> dict[str, NDArray[np.float64]]:
    """Loss, perplexity and token accuracy from sums over examples; any shape, elementwise."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        loss = np.divide(nll, targets, dtype=np.float64)
        return {
            "loss": loss,
            "perplexity": np.exp(loss),
            "token_accuracy": np.divide(correct, targets, dtype=np.float64),
        }


def label_metrics(counts: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Accuracy, macro F1, precision and recall of counts `[..., true label, predicted label or none]`.

    Macro is the mean over the labels that occur or are predicted (as in torchmetrics and scikit-learn); among
    these, a ratio 0/0 counts as 0: precision of a label never predicted, recall of one that never occurs.
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    support = counts.sum(axis=-1, dtype=np.float64)
    predicted = counts.sum(axis=-2, dtype=np.float64)[..., :-1]
    present = (support + predicted > 0).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        accuracy = hits.sum(axis=-1) / support.sum(axis=-1)
        macro = {
            name: np.nan_to_num(ratio).sum(axis=-1) / present
            for name, ratio in _class_ratios(hits, support, predicted).items()
        }
    return {"accuracy": accuracy, **macro}


def per_class(table: pa.Table) -> list[dict[str, Any]]:
    """One row `{label, precision, recall, f1, support}` per label; a ratio 0/0 is None.

    So `precision` is None for a label that is never predicted, and `recall` for one without support.
    """
    counts = _confusion_counts(table)
    support = counts.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = _class_ratios(np.diagonal(counts), support, counts.sum(axis=0)[:-1])
    return [
        {
            "label": label,
            "precision": _finite(ratios["precision"][i]),
            "recall": _finite(ratios["recall"][i]),
            "f1": _finite(ratios["f1"][i]),
            "support": int(support[i]),
        }
        for i, label in enumerate(labels_of(table))
    ]


def confusion(table: pa.Table) -> tuple[list[str], NDArray[np.int64]]:
    """Labels and the square matrix of counts [true, predicted] over the rows that have a label.

    Where some answers are none of the labels, `NO_LABEL` is appended as a last class, only ever predicted.
    """
    labels, counts = labels_of(table), _confusion_counts(table)
    if not counts[:, -1].any():
        return labels, counts[:, :-1]
    return [*labels, NO_LABEL], np.vstack([counts, np.zeros_like(counts[0])])


def expected_calibration_error(table: pa.Table) -> float | None:
    """Expected calibration error: mean gap between confidence and accuracy over 15 equal-width bins.

    Confidence is the probability (softmax over `label_logprobs`) of the predicted label. Rows without label,
    prediction or log-probabilities are left out. Source: Guo et al., On Calibration of Modern Neural
    Networks, 2017.
    """
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    truth, guess = label_indices(table)
    probabilities = label_probabilities(table)
    rows = np.flatnonzero((truth >= 0) & (guess >= 0) & (guess < probabilities.shape[1]))
    confidence = probabilities[rows, guess[rows]]
    known = np.isfinite(confidence)
    if not known.any():
        return None
    # torchmetrics has a bin of its own for a confidence of exactly 1; just below, it falls into the last of
    # 15.
    confidence = np.minimum(confidence[known], np.nextafter(1.0, 0.0))
    correct = (truth[rows] == guess[rows])[known].astype(np.int64)
    error = binary_calibration_error(torch.from_numpy(confidence), torch.from_numpy(correct), n_bins=ECE_BINS)
    return float(error)


def is_labelled(table: pa.Table) -> bool:
    """Whether the table holds a classification: some row has a predicted label."""
    return bool(table["predicted_label"].null_count < table.num_rows)


def labels_of(table: pa.Table) -> list[str]:
    """The task's labels: those of the schema metadata in their order, then any other in the rows, sorted."""
    named = _named_labels(table)
    columns = (pc.unique(_strings(table, name)).to_pylist() for name in ("label", "predicted_label"))
    found = {label for column in columns for label in column if label is not None}
    return list(dict.fromkeys([*named, *sorted(found)]))


def label_indices(table: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each row's true and predicted label as positions in `labels_of(table)`; -1 where there is none."""
    values = pa.array(labels_of(table), pa.string())
    columns = (pc.index_in(_strings(table, name), values) for name in ("label", "predicted_label"))
    truth, guess = (pc.fill_null(column, -1).to_numpy().astype(np.int64) for column in columns)
    return truth, guess


def label_probabilities(table: pa.Table) -> NDArray[np.float64]:
    """Softmax over each row's `label_logprobs`, `[rows, labels]`; NaN where a row has none.

    The columns are the labels that the schema metadata names, in their order. Raises ValueError when a row does not
    have one log-probability for each of them.
    """
    rows = table["label_logprobs"].to_pylist()
    widths = {len(row) for row in rows if row is not None}
    expected = len(_named_labels(table) or labels_of(table))
    if widths - {expected}:
        raise ValueError(
            f"label_logprobs has rows of length {sorted(widths)} for {expected} labels; "
            "write one log-probability per label, in the order of the schema metadata"
        )
    unknown = [math.nan] * expected
    logprobs = np.array([unknown if row is None else row for row in rows], np.float64).reshape(-1, expected)
    with np.errstate(invalid="ignore"):
        weights = np.exp(logprobs - logprobs.max(axis=1, keepdims=True, initial=-math.inf))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def token_counts(table: pa.Table) -> tuple[NDArray[np.float64], ...]:
    """Per example: summed negative log-likelihood (nats), target tokens, correct target tokens."""
    names = ("nll", "target_tokens", "correct_tokens")
    return tuple(table[name].to_numpy().astype(np.float64) for name in names)


def _confusion_counts(table: pa.Table) -> NDArray[np.int64]:
    """Counts `[labels, labels + 1]`, true by predicted; the last column counts answers that are no label."""
    import torch
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    size = len(labels_of(table))
    truth, guess = label_indices(table)
    guess = np.where(guess < 0, size, guess)[truth >= 0]
    if not len(guess):
        return np.zeros((size, size + 1), np.int64)
    preds, target = torch.from_numpy(guess), torch.from_numpy(truth[truth >= 0])
    counts = multiclass_confusion_matrix(preds, target, num_classes=size + 1)
    return np.asarray(counts.numpy()[:size])


def _class_ratios(hits: Any, support: Any, predicted: Any) -> dict[str, Any]:
    return {"f1": 2 * hits / (support + predicted), "precision": hits / predicted, "recall": hits / support}


def _named_labels(table: pa.Table) -> list[str]:
    return list(json.loads((table.schema.metadata or {}).get(b"labels", b"[]")))


def _strings(table: pa.Table, name: str) -> pa.Array:
    return table[name].combine_chunks().cast(pa.string())


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
