"""Preferences in a scores table: one row for each pair of completions, and its metrics.

Beside the columns of `kamerton.score.table`, which are those of the chosen completion (`target`, `nll`, …), a row has
`rejected`, `rejected_nll` (nats, over its tokens), `rejected_tokens`, and the log-probabilities of both by the
reference, `reference_logprob` and `rejected_reference_logprob` (null if the objective has no reference). The schema's
`beta` scales rewards. Completions that are judged one by one have a row each, with `desired` and `reference_logprob`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kamerton.config.schema import ObjectiveOptions
from kamerton.data.encode.arrays import Encoded
from kamerton.objective.judgements import JudgedRows
from kamerton.objective.pair_loss import ROUNDING, WITHOUT_REFERENCE
from kamerton.objective.pairs import PreferenceRows
from kamerton.score.columns import is_labelled

FIELDS = [
    pa.field("rejected", pa.string()),
    pa.field("rejected_nll", pa.float64()),
    pa.field("rejected_tokens", pa.int32()),
    pa.field("reference_logprob", pa.float64()),
    pa.field("rejected_reference_logprob", pa.float64()),
]
DESIRED = pa.field("desired", pa.bool_())  # of judged completions (KTO)
BETA = b"beta"  # key in the schema metadata
REFERENCE_TOLERANCE = 5e-3  # relative; more than the rounding of another layout, less than any training
_HIDDEN = ("perplexity", "token_accuracy", "length_chosen", "length_rejected")  # from tables for people
Counts = NDArray[np.float64]


def preference_rows(data: Encoded, reference: Counts) -> PreferenceRows:
    """Return the preferences of a split; `reference` are the log-probabilities of its sequences, in nats."""
    scores = np.array([float(example.score or 0.0) for example in data.examples])
    weights = np.ones(len(data.starts)) if data.weights is None else data.weights[data.starts]
    return PreferenceRows(scores, reference, data.target_counts, data.starts, weights)


def has_reference(options: ObjectiveOptions) -> bool:
    """Return whether the objective compares the model with a reference."""
    return options.name not in ("sft", *WITHOUT_REFERENCE)


def preferences_table(completions: pa.Table, rows: PreferenceRows | JudgedRows, options: ObjectiveOptions) -> pa.Table:
    """Return the table of the objective: a row for each pair, or for each judged completion."""
    if isinstance(rows, JudgedRows):
        return judged_table(completions, rows, beta=options.beta, reference=has_reference(options))
    return pairs_table(completions, rows, beta=options.beta, reference=has_reference(options))


def judged_table(completions: pa.Table, rows: JudgedRows, *, beta: float, reference: bool) -> pa.Table:
    """Return the table with the columns of judged completions; without a `reference` that column is null."""
    everything = rows.judge(range(len(rows.starts)), range(completions.num_rows))
    table = completions.append_column(DESIRED, pa.array(everything.desired.numpy()))
    known = pa.array(rows.rows.reference) if reference else pa.nulls(table.num_rows, pa.float64())
    table = table.append_column(FIELDS[3], known)
    return table.replace_schema_metadata({**(table.schema.metadata or {}), BETA: json.dumps(beta)})


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


def has_judgements(table: pa.Table) -> bool:
    """Return whether the rows of the table are completions that are desired or not."""
    return DESIRED.name in table.column_names


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


def same_reference(first: pa.Table, second: pa.Table) -> bool:
    """Return whether rewards in both tables, of the same rows in the same order, are against the same reference."""
    for name in ("reference_logprob", "rejected_reference_logprob"):
        columns = [table[name].to_numpy() for table in (first, second) if name in table.column_names]
        unknown = [np.isnan(column) for column in columns]
        if len(columns) == 1 or (columns and (unknown[0] != unknown[1]).any()):
            return False
        if columns and not unknown[0].all():
            difference, size = np.nanmean(np.abs(columns[0] - columns[1])), np.nanmean(np.abs(columns[0]))
            if difference > REFERENCE_TOLERANCE * size:
                return False
    return True


def incomparable(metric: str, first: pa.Table, second: pa.Table) -> bool:
    """Return whether a metric of rewards means something else in both tables, whose rows are the same.

    Rewards are relative to a reference and scaled by beta; `preference_accuracy` does not depend on beta.
    """
    if metric not in ("preference_accuracy", "margin") and not metric.startswith("reward_"):
        return False
    scaled = metric != "preference_accuracy" and _beta(first) != _beta(second)
    return scaled or not same_reference(first, second)


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
    beta = _beta(table)
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


def judged_counts(table: pa.Table) -> Counts:
    """Return the terms of `judged_metrics` by row: (rows, 4)."""
    desired = table[DESIRED.name].to_numpy().astype(np.float64)
    nll, size, reference = (
        table[name].to_numpy().astype(np.float64) for name in ("nll", "target_tokens", "reference_logprob")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        reward = _beta(table) * np.where(np.isnan(reference), -nll / size, -nll - reference)
    return np.stack([desired, 1 - desired, desired * reward, (1 - desired) * reward], axis=-1)


def judged_metrics(sums: Any) -> dict[str, Counts]:
    """Return metrics from sums of `judged_counts`, (..., 4).

    `margin` is the mean reward of the desired completions less that of the others.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        desired, undesired = sums[..., 2] / sums[..., 0], sums[..., 3] / sums[..., 1]
    return {"reward_desired": desired, "reward_undesired": undesired, "margin": desired - undesired}


def pair_scores(table: pa.Table) -> dict[str, Counts]:
    """Return the metrics of each pair that comparisons test: (rows,) each."""
    metrics = pair_metrics(pair_counts(table))
    return {name: metrics[name] for name in ("preference_accuracy", "ranking_accuracy", "margin")}


def _preferred(value: Counts, other: Counts, rounding: float) -> Counts:
    """Return 1 where a value is higher than the other, 0.5 where they are about equal, 0 elsewhere; NaN if unknown."""
    margin = value - other
    return 0.5 + 0.5 * np.sign(margin) * np.where(np.isnan(margin), np.nan, np.abs(margin) > rounding)


def _beta(table: pa.Table) -> float:
    return float(json.loads((table.schema.metadata or {}).get(BETA, b"1.0")))


def pair_ids(example_id: str, pairs: Sequence[tuple[int, int]], start: int = 0) -> list[str]:
    """Return the ids of the pairs of an example, whose completions are numbered from `start`.

    A single pair has the id of its example.
    """
    if len(pairs) == 1:
        return [example_id]
    texts = (f"{example_id} {better - start} {worse - start}" for better, worse in pairs)
    return [hashlib.blake2b(text.encode(), digest_size=8).hexdigest() for text in texts]
