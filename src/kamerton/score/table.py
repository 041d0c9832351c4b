"""The scores table: one row per example, from which every metric can be recomputed.

Columns: `example_id, prompt, target, prediction, label, predicted_label, label_logprobs, nll, target_tokens,
correct_tokens, metadata, finish_reason`. `nll` is summed over the target's tokens, in nats; `correct_tokens` counts
those that were the most likely token given the true ones before them; both are null for scorers without token
probabilities (a linear baseline, a hosted model). `label_logprobs` is aligned with the schema's `labels`.
`finish_reason` is "stop" (the end of turn, or a complete label), "length" (limit of new tokens), or null if nothing was
generated.

Tables of data with functions, calls or reasoning have some of the columns `target_calls, predicted_calls,
target_reasoning, prediction_reasoning, generated`; any other table has none of them. `target` and `prediction` are then
contents alone, without reasoning and calls, and `generated` is the whole text from which the answer was read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kamerton.data.example import DataExample
from kamerton.errors import Fault, UserError
from kamerton.files import replacing
from kamerton.score.calls import calls_text

_FIELDS = [
    pa.field("example_id", pa.string(), nullable=False),
    pa.field("prompt", pa.string(), nullable=False),
    pa.field("target", pa.string(), nullable=False),
    pa.field("prediction", pa.string()),
    pa.field("label", pa.string()),
    pa.field("predicted_label", pa.string()),
    pa.field("label_logprobs", pa.list_(pa.float64())),
    pa.field("nll", pa.float64()),
    pa.field("target_tokens", pa.int32(), nullable=False),
    pa.field("correct_tokens", pa.int32()),
    pa.field("metadata", pa.string(), nullable=False),
    pa.field("finish_reason", pa.string()),
]
_OF_CALLS = [  # only in tables with a value in them
    pa.field("target_calls", pa.string()),
    pa.field("predicted_calls", pa.string()),
    pa.field("target_reasoning", pa.string()),
    pa.field("prediction_reasoning", pa.string()),
    pa.field("generated", pa.string()),
]
_LATER = {"finish_reason"}  # columns that tables of earlier versions lack


def scores_table(rows: Sequence[dict[str, Any]], labels: Sequence[str] | None) -> pa.Table:
    """Return the rows as an Arrow table with the documented columns; `labels` is stored in the schema."""
    more = [field for field in _OF_CALLS if any(row.get(field.name) is not None for row in rows)]
    schema = pa.schema([*_FIELDS, *more], metadata={"labels": json.dumps(list(labels))} if labels is not None else None)
    return pa.Table.from_pylist(list(rows), schema=schema)


def write_scores(table: pa.Table, path: Path) -> None:
    """Write the table as Parquet, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        pq.write_table(table, partial)


def read_scores(path: Path) -> pa.Table:
    """Read a scores table; columns that its version lacks are null. Raises `UserError` if missing or unreadable."""
    if not path.is_file():
        fix = "name a scores table, e.g. outputs/trec/ab12/scores/test.parquet"
        raise UserError([Fault("scores.not_found", "scores table not found", fix, file=str(path))])
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        fix = "name a scores table as `kamerton train` writes it"
        raise UserError([Fault("scores.unreadable", f"not Parquet: {error}", fix, file=str(path))]) from error
    if missing := sorted({field.name for field in _FIELDS} - set(table.column_names) - _LATER):
        message, fix = f"columns missing: {', '.join(missing)}", "name a scores table as `kamerton train` writes it"
        raise UserError([Fault("scores.columns", message, fix, file=str(path))])
    for key, value in (table.schema.metadata or {}).items():
        if value[:1] in (b"[", b"{"):
            try:
                json.loads(value)
            except (ValueError, RecursionError) as error:  # RecursionError: nested without end
                message = f"its {key.decode(errors='replace')} cannot be read: {error}"
                raise UserError([Fault("scores.unreadable", message, "score the run again", str(path))]) from None
    for field in _FIELDS:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table


def example_row(example: DataExample, example_id: str) -> dict[str, Any]:
    """Return the part of a scores row that does not depend on the model."""
    row = {
        "example_id": example_id,
        "prompt": example.prompt_text,
        "target": example.completion,
        "metadata": json.dumps(dict(example.metadata), ensure_ascii=False, default=str),
    }
    if example.tools or example.tool_calls:
        row["target_calls"] = calls_text(example.tool_calls)
    return row | ({"target_reasoning": example.reasoning} if example.reasoning else {})


def all_fields() -> list[pa.Field]:
    """Return every column that a scores table may have, without custom metrics."""
    return [*_FIELDS, *_OF_CALLS]
