"""Rewards of generated answers as columns of a scores table, which metrics and comparisons treat as custom metrics."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from kamerton.objective.grading import Answered, Reward, grade, total
from kamerton.score.calls import message_calls
from kamerton.score.columns import REWARDS
from kamerton.score.metrics import CUSTOM


def with_rewards(table: pa.Table, rewards: Sequence[Reward]) -> pa.Table:
    """Return the table with the weighted sum of the rewards of each answer, and each by itself if there are several.

    Nothing is added without generated answers. Raises `RunFailed` if a reward fails.
    """
    if not rewards or table["finish_reason"].null_count == table.num_rows:
        return table
    values = np.array([grade(rewards, _answered(row)) for row in table.to_pylist()]).reshape(-1, len(rewards))
    columns = {"reward": np.array([total(rewards, each) for each in values.tolist()], np.float64)}
    if len(rewards) > 1:
        columns |= {f"reward_{reward.name}": values[:, number] for number, reward in enumerate(rewards)}
    for name, column in columns.items():
        table = table.append_column(pa.field(f"{CUSTOM}{name}", pa.float64()), pa.array(column))
    used = {reward.name: [reward.fingerprint, reward.weight] for reward in rewards}
    return table.replace_schema_metadata({**(table.schema.metadata or {}), REWARDS: json.dumps(used)})


def _answered(row: dict[str, str]) -> Answered:
    has_reference = row["target"] or row.get("target_calls") not in (None, "[]")
    return Answered(
        row["example_id"],
        row["prompt"],
        row["prediction"] or "",
        row["target"] if has_reference else None,
        json.loads(row["metadata"]),
        message_calls(row.get("predicted_calls")),
    )
