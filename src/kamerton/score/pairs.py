"""Pairs of completions in a scores table: one row for each, and its metrics.

Beside the columns of `kamerton.score.table`, which are those of the chosen completion (`target`, `nll`, …), a row has
`rejected`, `rejected_nll` (nats, over its tokens), `rejected_tokens`, and the log-probabilities of both by the
reference, `reference_logprob` and `rejected_reference_logprob` (null if the objective has no reference). The schema's
`beta` scales rewards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kamerton.objective.pair_loss import ROUNDING
from kamerton.objective.pairs import PreferenceRows
from kamerton.score.columns import BETA, beta_of

FIELDS = [
    pa.field("rejected", pa.string()),
    pa.field("rejected_nll", pa.float64()),
    pa.field("rejected_tokens", pa.int32()),
    pa.field("reference_logprob", pa.float64()),
    pa.field("rejected_reference_logprob", pa.float64()),
]
Counts = NDArray[np.float64]


def pairs_table(completions: pa.Table, rows: PreferenceRows, *, beta: float, reference: bool) -> pa.Table:
    """Return a table with a row for each pair, from the scores of all completions in the order of `rows`.

    An example of more than two completions has several pairs, each with an id of its own. Without a `reference` the
    columns of its log-probabilities are null.
    """
    by_example = [rows.pairs(example) for example in range(len(rows.starts))]
    pairs = [pair for of_example in by_example for pair in of_example]
    chosen, rejected = (np.array([pair[side] for pair in pairs], np.int64) for side in (0, 1))
    names = completions["example_id"].to_pylist()
    ids = [
        pair_id
        for start, of_example in zip(rows.starts.tolist(), by_example, strict=True)
        for pair_id in pair_ids(names[start], of_example, start)
    ]
    table, other = completions.take(chosen), completions.take(rejected)
    table = table.set_column(0, completions.schema.field("example_id"), pa.array(ids, pa.string()))
    null = pa.nulls(len(pairs), pa.float64())
    values = (
        other["target"],
        other["nll"],
        other["target_tokens"],
        pa.array(rows.reference[chosen]) if reference else null,
        pa.array(rows.reference[rejected]) if reference else null,
    )
    for field, value in zip(FIELDS, values, strict=True):
        table = table.append_column(field, value)
    if "target_calls" in completions.column_names:
        table = table.append_column("rejected_calls", other["target_calls"])
    return table.replace_schema_metadata({**(table.schema.metadata or {}), BETA: json.dumps(beta)})


def has_pairs(table: pa.Table) -> bool:
    """Return whether the rows of the table are pairs of completions."""
    return "rejected_nll" in table.column_names


def pair_counts(table: pa.Table) -> Counts:
    """Return the terms of `pair_metrics` by row: (rows, 9), NaN where a value is unknown."""
    names = (
        "nll",
        "rejected_nll",
        "target_tokens",
        "rejected_tokens",
        "reference_logprob",
        "rejected_reference_logprob",
    )
    nll, other_nll, size, other_size, reference, other_reference = (
        table[name].to_numpy().astype(np.float64) for name in names
    )
    beta = beta_of(table)
    with np.errstate(divide="ignore", invalid="ignore"):
        per_token, other_per_token = -nll / size, -other_nll / other_size
    ranked = _preferred(per_token, other_per_token, 0.0)
    known = ~np.isnan(reference)
    reward = beta * np.where(known, -nll - reference, per_token)
    other_reward = beta * np.where(known, -other_nll - other_reference, other_per_token)
    return np.stack(
        [
            np.ones(len(nll)),
            _preferred(reward, other_reward, ROUNDING * beta),
            ranked,
            reward,
            other_reward,
            -nll,
            -other_nll,
            size,
            other_size,
        ],
        axis=-1,
    )


def pair_metrics(sums: Any) -> dict[str, Counts]:
    """Return metrics from sums of `pair_counts`, (..., 9).

    `preference_accuracy` is the share of pairs whose chosen completion has the higher reward, beta times the log-ratio
    to the reference (without a reference, the log-probability per token); `ranking_accuracy` that whose chosen
    completion has the higher log-probability per token. A tie is half right in both. `margin` is the mean difference of
    the rewards. Lengths are in tokens.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        means = sums / sums[..., :1]
    names = (
        *("preference_accuracy", "ranking_accuracy", "reward_chosen", "reward_rejected"),
        *("logprob_chosen", "logprob_rejected", "length_chosen", "length_rejected"),
    )
    values = {name: means[..., i] for i, name in enumerate(names, 1)}
    return {**values, "margin": values["reward_chosen"] - values["reward_rejected"]}


def pair_scores(table: pa.Table) -> dict[str, Counts]:
    """Return the metrics of each pair that comparisons test: (rows,) each."""
    metrics = pair_metrics(pair_counts(table))
    return {name: metrics[name] for name in ("preference_accuracy", "ranking_accuracy", "margin")}


def _preferred(value: Counts, other: Counts, rounding: float) -> Counts:
    """Return 1 where a value is higher than the other, 0.5 where they are about equal, 0 elsewhere; NaN if unknown."""
    margin = value - other
    return 0.5 + 0.5 * np.sign(margin) * np.where(np.isnan(margin), np.nan, np.abs(margin) > rounding)


def pair_ids(example_id: str, pairs: Sequence[tuple[int, int]], start: int = 0) -> list[str]:
    """Return the ids of the pairs of an example, whose completions are numbered from `start`.

    A single pair has the id of its example.
    """
    if len(pairs) == 1:
        return [example_id]
    texts = (f"{example_id} {better - start} {worse - start}" for better, worse in pairs)
    return [hashlib.blake2b(text.encode(), digest_size=8).hexdigest() for text in texts]
