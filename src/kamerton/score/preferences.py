"""Scores tables of preferences, pairs or judged completions: from scores of completions to the metrics to show."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kamerton.config.objective_options import ObjectiveOptions
from kamerton.data.encode.arrays import Encoded
from kamerton.direction import REWARD
from kamerton.objective.judgements import JudgedRows
from kamerton.objective.pair_loss import WITHOUT_REFERENCE
from kamerton.objective.pairs import PreferenceRows
from kamerton.score.columns import has_reward, is_labelled
from kamerton.score.judged import has_judgements, judged_table
from kamerton.score.pairs import has_pairs, pairs_table

Rows = PreferenceRows | JudgedRows
_HIDDEN = ("perplexity", "token_accuracy", "length_chosen", "length_rejected")  # from tables for people


def preference_rows(data: Encoded, reference: NDArray[np.float64]) -> PreferenceRows:
    """Return the preferences of a split; `reference` are the log-probabilities of its sequences, in nats."""
    scores = np.array([float(example.score or 0.0) for example in data.examples])
    weights = np.ones(len(data.starts)) if data.weights is None else data.weights[data.starts]
    return PreferenceRows(scores, reference, data.target_counts, data.starts, weights)


def has_reference(options: ObjectiveOptions) -> bool:
    """Return whether the objective compares the model with a reference."""
    return options.name not in ("sft", *WITHOUT_REFERENCE)


def preferences_table(
    completions: pa.Table, rows: Rows, options: ObjectiveOptions, others: NDArray[np.float64] | None = None
) -> pa.Table:
    """Return the table of the objective: a row for each pair, or for each judged completion (`others` as there)."""
    if isinstance(rows, JudgedRows):
        return judged_table(completions, rows, beta=options.beta, reference=has_reference(options), others=others)
    return pairs_table(completions, rows, beta=options.beta, reference=has_reference(options))


def is_preference(table: pa.Table | None) -> bool:
    """Return whether the rows of a table are pairs or judged completions."""
    return table is not None and (has_pairs(table) or has_judgements(table))


def rows_word(table: pa.Table) -> str:
    """Return what the rows are: pairs, completions (judged one by one) or examples."""
    return "pairs" if has_pairs(table) else "completions" if has_judgements(table) else "examples"


def main_metric(table: pa.Table) -> str:
    """Return the metric that says how good a model is on these rows."""
    if is_labelled(table):
        return "accuracy"
    if has_reward(table):
        return REWARD
    return "preference_accuracy" if has_pairs(table) else "margin" if has_judgements(table) else "loss"


def shown_metrics(table: pa.Table | None, metrics: Iterable[str]) -> dict[str, str]:
    """Return the metrics to show of a table, each with its name there.

    The loss of pairs is that of the chosen completions; that of judged completions, which should rise for some of them,
    is left out, as are metrics that say the same as another one or are about the data.
    """
    if table is None or not is_preference(table):
        return {name: name for name in metrics}
    hidden = _HIDDEN if has_pairs(table) else (*_HIDDEN, "loss")
    return {name: "loss (chosen)" if name == "loss" else name for name in metrics if name not in hidden}
