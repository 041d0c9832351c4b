"""Rows of Parquet files as plain Python values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from kamerton.errors import Fault


def parquet_rows(source: Path | IO[bytes], name: str) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    """Yield `(number of the record, fields)` from 1; a fault of the file has the number 0."""
    with pq.ParquetFile(source) as file:
        names = file.schema_arrow.names
        if len(set(names)) < len(names):
            repeated = next(name for name in names if names.count(name) > 1)
            message = f"two columns are named {repeated!r}"
            yield 0, Fault("duplicate-column", message, "rename one", name, column=repeated)
            return
        number = 0
        for batch in file.iter_batches(batch_size=8192):
            columns = [_to_python(column) for column in batch.columns]
            for values in zip(*columns, strict=True):
                number += 1
                yield number, dict(zip(names, values, strict=True))


def _to_python(column: pa.Array) -> list[Any]:
    """Return a column as Python values, NaN as None; values without a Python type become text.

    Times in nanoseconds are converted to microseconds first, because Arrow returns pandas' types for them if pandas is
    installed. Times that need nanoseconds, or are outside Python's range, are values without a Python type.
    """
    kind = column.type
    try:
        if pa.types.is_timestamp(kind) and kind.unit == "ns":
            values: list[Any] = column.cast(pa.timestamp("us", kind.tz)).to_pylist()
        elif pa.types.is_duration(kind) and kind.unit == "ns":
            values = column.cast(pa.duration("us")).to_pylist()
        else:
            values = column.to_pylist()
    except (ValueError, OverflowError, ImportError):
        values = column.cast(pa.string()).to_pylist()
    return [without_nan(value) for value in values] if _has_floats(kind) else values


def _has_floats(kind: pa.DataType) -> bool:
    """Return whether values of this type are or contain floating-point numbers."""
    if pa.types.is_dictionary(kind):
        return _has_floats(kind.value_type)
    return pa.types.is_floating(kind) or any(_has_floats(kind.field(i).type) for i in range(kind.num_fields))


def without_nan(value: Any) -> Any:
    """Replace NaN by None, also within lists and objects: pandas and numpy write missing numbers as NaN."""
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, dict):
        return {name: without_nan(item) for name, item in value.items()}
    return None if value != value else value  # noqa: PLR0124 - NaN
