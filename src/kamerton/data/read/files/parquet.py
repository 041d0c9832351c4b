"""Rows of Parquet files as plain Python values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as pq

from kamerton.data.read.files.arrow import batch_rows, class_labels
from kamerton.errors import Fault


def parquet_rows(source: Path | IO[bytes], name: str) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    """Yield `(number of the record, fields)` from 1; a fault of the file has the number 0."""
    with pq.ParquetFile(source) as file:
        schema = file.schema_arrow
        yield from batch_rows(file.iter_batches(batch_size=8192), schema, name, class_labels(schema, None))
