"""Completions that are judged one by one (KTO) in a scores table, and their metrics.

A row has `desired`, `reference_logprob` (null without a reference) and `reference_point`, the reward above which a
completion counts as a gain: beta times the estimate of the KL divergence from the reference that KTO subtracts.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from kamerton.objective.judgements import JudgedRows, JudgementLoss
from kamerton.objective.pair_loss import ROUNDING
from kamerton.score.columns import BETA, beta_of

FIELDS = [
    pa.field("desired", pa.bool_()),
    pa.field("reference_logprob", pa.float64()),
    pa.field("reference_point", pa.float64()),
]
Counts = NDArray[np.float64]


def judged_table(
    completions: pa.Table, rows: JudgedRows, *, beta: float, reference: bool, others: Counts | None = None
) -> pa.Table:
    """Return the table with the columns of judged completions.

    `others` are the model's log-probabilities of the prompts with the completions of other examples, (rows,), in nats;
    without them, or without a `reference`, there is no reference point.
    """
    everything = rows.judge(range(len(rows.starts)), range(completions.num_rows))
    null = pa.nulls(completions.num_rows, pa.float64())
    point = null
    if reference and others is not None:
        divergence = JudgementLoss(beta).divergence(torch.from_numpy(others), everything, lambda value: value)
        point = pa.array(np.full(completions.num_rows, beta * float(divergence)))
    values = (
        pa.array(everything.desired.numpy()),
        pa.array(rows.rows.reference) if reference else null,
        point,
    )
    table = completions
    for field, value in zip(FIELDS, values, strict=True):
        table = table.append_column(field, value)
    return table.replace_schema_metadata({**(table.schema.metadata or {}), BETA: json.dumps(beta)})


def has_judgements(table: pa.Table) -> bool:
    """Return whether the rows of the table are completions that are desired or not."""
    return "desired" in table.column_names


def judged_rewards(table: pa.Table) -> Counts:
    """Return the reward of each completion: beta times its log-ratio to the reference, or without one its
    log-probability per token.
    """
    nll, size, reference = (
        table[name].to_numpy().astype(np.float64) for name in ("nll", "target_tokens", "reference_logprob")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(beta_of(table) * np.where(np.isnan(reference), -nll / size, -nll - reference))


def judged_right(table: pa.Table) -> Counts:
    """Return 1 for each completion whose reward is on the right side of the reference point, 0.5 if it is at it, else
    0; NaN if the point is unknown: (rows,).
    """
    desired = table["desired"].to_numpy().astype(bool)
    if "reference_point" not in table.column_names:
        return np.full(len(desired), np.nan)
    above = judged_rewards(table) - table["reference_point"].to_numpy().astype(np.float64)
    side = np.where(np.abs(above) > ROUNDING * beta_of(table), np.sign(above), 0.0) + 0.0 * above
    return np.asarray(0.5 + 0.5 * np.where(desired, side, -side))


def judged_counts(table: pa.Table) -> Counts:
    """Return the terms of `judged_metrics` by row: (rows, 6)."""
    desired, reward, right = table["desired"].to_numpy().astype(np.float64), judged_rewards(table), judged_right(table)
    known = ~np.isnan(right)
    terms = [desired, 1 - desired, desired * reward, (1 - desired) * reward, np.where(known, right, 0.0), known]
    return np.stack(terms, axis=-1)


def judged_metrics(sums: Any) -> dict[str, Counts]:
    """Return metrics from sums of `judged_counts`, (..., 6).

    `margin` is the mean reward of the desired completions less that of the others. `preference_accuracy` is the share
    of completions whose reward is above the reference point if they are desired, below it if not; a tie is half right.
    KTO (Ethayarajh et al. 2024, arXiv 2402.01306) values a completion by the sigmoid of its distance from that point,
    beta times the divergence from the reference, so it is where a completion turns from a loss into a gain. The
    divergence is estimated from the prompts with the completions of other examples, as in training, over the whole
    table. TRL logs no accuracy for KTO.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        desired, undesired = sums[..., 2] / sums[..., 0], sums[..., 3] / sums[..., 1]
        accuracy = sums[..., 4] / sums[..., 5]
    return {
        "preference_accuracy": accuracy,
        "reward_desired": desired,
        "reward_undesired": undesired,
        "margin": desired - undesired,
    }
