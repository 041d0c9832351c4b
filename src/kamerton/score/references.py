"""Whether rewards in two scores tables are of the same kind, and so may be compared."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from kamerton.score.columns import REWARDS, beta_of, has_reward

REFERENCE_TOLERANCE = 5e-3  # relative; more than the rounding of another layout, less than any training


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

    Rewards of preferences are relative to a reference and scaled by beta; `preference_accuracy` does not depend on
    beta. Rewards of answers are functions with arguments and weights; tables that do not name them are not told apart.
    """
    if has_reward(first) and has_reward(second):
        return metric in _different_rewards(first, second)
    if metric not in ("preference_accuracy", "margin") and not metric.startswith("reward_"):
        return False
    scaled = metric != "preference_accuracy" and beta_of(first) != beta_of(second)
    return scaled or not same_reference(first, second)


def _different_rewards(first: pa.Table, second: pa.Table) -> set[str]:
    """Return the metrics of answers' rewards that other functions, arguments or weights compute in both tables."""
    before, after = (json.loads((table.schema.metadata or {}).get(REWARDS, b"{}")) for table in (first, second))
    if not before or not after or before == after:
        return set()
    common = before.keys() & after.keys()
    return {"reward", *(f"reward_{name}" for name in common if before[name][0] != after[name][0])}
