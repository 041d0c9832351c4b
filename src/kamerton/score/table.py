"""The scores table: one row per example, from which every metric can be recomputed.

Columns: `example_id, prompt, target, prediction, label, predicted_label, label_logprobs, nll, target_tokens,
correct_tokens, metadata`. `nll` is summed over the target's tokens, in nats; `correct_tokens` counts those that were
the most likely token given the true ones before them; `label_logprobs` is aligned with the schema's `labels`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kamerton.files import replacing

_FIELDS = [
    pa.field("example_id", pa.string(), nullable=False),
    pa.field("prompt", pa.string(), nullable=False),
    pa.field("target", pa.string(), nullable=False),
    pa.field("prediction", pa.string()),
    pa.field("label", pa.string()),
    pa.field("predicted_label", pa.string()),
    pa.field("label_logprobs", pa.list_(pa.float64())),
    pa.field("nll", pa.float64(), nullable=False),
    pa.field("target_tokens", pa.int32(), nullable=False),
    pa.field("correct_tokens", pa.int32(), nullable=False),
    pa.field("metadata", pa.string(), nullable=False),
]


def scores_table(rows: Sequence[dict[str, Any]], labels: Sequence[str] | None) -> pa.Table:
    """The rows as an Arrow table with the documented columns; `labels` is kept in the schema."""
    schema = pa.schema(_FIELDS, metadata={"labels": json.dumps(list(labels))} if labels is not None else None)
    return pa.Table.from_pylist(list(rows), schema=schema)


def write_scores(table: pa.Table, path: Path) -> None:
    """Write the table as Parquet; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        pq.write_table(table, partial)


def read_scores(path: Path) -> pa.Table:
    """A scores table from disk."""
    return pq.read_table(path)
