"""Columns of a scores table as arrays: labels, label probabilities, token counts.

A scores table has one row per example (`example_id, prompt, target, prediction, label, predicted_label,
label_logprobs, nll, target_tokens, correct_tokens, metadata, finish_reason`, and columns for calls and reasoning if its
data have any); its schema metadata may name the task's labels under `b"labels"` (a JSON list, the order of
`label_logprobs`).
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

BETA = b"beta"  # key in the schema metadata of preferences: scales their rewards
REWARDS = b"rewards"  # key in the schema metadata of answers with rewards: their fingerprints and weights
REWARD_COLUMN = "metric:reward"  # of generated answers, a custom metric (`kamerton.score.rewards`)


def has_reward(table: pa.Table) -> bool:
    """Return whether the answers of the table have rewards."""
    return REWARD_COLUMN in table.column_names


def is_labelled(table: pa.Table) -> bool:
    """Return whether the table holds a classification: some row has a label or predicted label."""
    return any(table[name].null_count < table.num_rows for name in ("predicted_label", "label"))


def is_generated(table: pa.Table) -> bool:
    """Return whether the table holds generated texts to compare with references: predictions, but no labels."""
    return not is_labelled(table) and bool(table["prediction"].null_count < table.num_rows)


def labels_of(table: pa.Table) -> list[str]:
    """Return the task's labels: those of the schema metadata in their order, then any others of the rows, sorted."""
    named = _named_labels(table)
    columns = (pc.unique(_strings(table, name)).to_pylist() for name in ("label", "predicted_label"))
    in_rows = {label for column in columns for label in column if label is not None}
    return list(dict.fromkeys([*named, *sorted(in_rows)]))


def label_indices(table: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each row's true and predicted label, `[rows]` each, as positions in `labels_of(table)`; -1 if null."""
    values = pa.array(labels_of(table), pa.string())
    columns = (pc.index_in(_strings(table, name), values) for name in ("label", "predicted_label"))
    truth, guess = (pc.fill_null(column, -1).to_numpy().astype(np.int64) for column in columns)
    return truth, guess


def label_probabilities(table: pa.Table) -> NDArray[np.float64]:
    """Return the softmax over each row's `label_logprobs`, `[rows, labels]`; NaN for rows without them.

    The columns are the labels of the schema metadata, in their order. Raises `ValueError` if a row does not have one
    log-probability for each of them.
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
    """Return summed nll (nats), target tokens and correct target tokens by example, `[rows]` each; NaN for null."""
    names = ("nll", "target_tokens", "correct_tokens")
    return tuple(table[name].to_numpy().astype(np.float64) for name in names)


def beta_of(table: pa.Table) -> float:
    """Return what scales the rewards of preferences."""
    return float(json.loads((table.schema.metadata or {}).get(BETA, b"1.0")))


def finite(value: Any) -> float | None:
    """Return the value as a float; None if it is missing, infinite or NaN."""
    return float(value) if value is not None and math.isfinite(value) else None


def _named_labels(table: pa.Table) -> list[str]:
    return list(json.loads((table.schema.metadata or {}).get(b"labels", b"[]")))


def _strings(table: pa.Table, name: str) -> pa.Array:
    return table[name].combine_chunks().cast(pa.string())
