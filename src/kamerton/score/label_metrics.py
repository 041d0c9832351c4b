"""Metrics of classifications: accuracy, F1, precision and recall from the counts of true and predicted labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kamerton.score.columns import finite, label_indices, labels_of

NO_LABEL = "(no label)"
"""The predicted class of answers that are not a label."""


def label_metrics(counts: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Return accuracy, macro F1, precision and recall, micro and weighted F1 from a confusion matrix.

    `counts` is `[..., labels, labels + 1]`, true by predicted; the last column counts answers that are not a label.
    Macro averages over the labels that occur or are predicted (as in torchmetrics and scikit-learn); among these, a
    ratio 0/0 counts as 0 (precision of a label never predicted, recall of a label that never occurs). Micro counts all
    labels together (and equals accuracy if every answer is a label); weighted means by the frequency of a label.
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    support = counts.sum(axis=-1, dtype=np.float64)
    predicted = counts.sum(axis=-2, dtype=np.float64)[..., :-1]
    present = (support + predicted > 0).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = {name: np.nan_to_num(ratio) for name, ratio in _class_ratios(hits, support, predicted).items()}
        total = support.sum(axis=-1)
        return {
            "accuracy": hits.sum(axis=-1) / total,
            **{name: ratio.sum(axis=-1) / present for name, ratio in ratios.items()},
            "f1_micro": 2 * hits.sum(axis=-1) / (total + predicted.sum(axis=-1)),
            "f1_weighted": (support * ratios["f1"]).sum(axis=-1) / total,
        }


def per_class(table: pa.Table) -> list[dict[str, Any]]:
    """Return one row `{label, precision, recall, f1, support}` per label.

    A ratio 0/0 is None: `precision` of a label that is never predicted, `recall` of a label without support.
    """
    counts = confusion_counts(table)
    support = counts.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = _class_ratios(np.diagonal(counts), support, counts.sum(axis=0)[:-1])
    return [
        {
            "label": label,
            "precision": finite(ratios["precision"][i]),
            "recall": finite(ratios["recall"][i]),
            "f1": finite(ratios["f1"][i]),
            "support": int(support[i]),
        }
        for i, label in enumerate(labels_of(table))
    ]


def confusion(table: pa.Table) -> tuple[list[str], NDArray[np.int64]]:
    """Return the labels and the square matrix of counts `[true, predicted]` over the rows that have a label.

    If some answers are not a label, `NO_LABEL` is appended as the last class, which is only ever predicted.
    """
    labels, counts = labels_of(table), confusion_counts(table)
    if not counts[:, -1].any():
        return labels, counts[:, :-1]
    return [*labels, NO_LABEL], np.vstack([counts, np.zeros_like(counts[0])])


def confusion_counts(table: pa.Table) -> NDArray[np.int64]:
    """Return counts `[labels, labels + 1]`, true by predicted; the last column counts answers that are not a label."""
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
