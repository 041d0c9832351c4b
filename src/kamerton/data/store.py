"""The row store: every accepted row of the input in one Arrow file, and `Examples`, a view of some of its rows.

The file is memory-mapped, so a view costs 8 bytes a row however long the texts are.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kamerton.data.example import DataExample
from kamerton.data.parts import WHOLE, part_id, part_of
from kamerton.data.stored import NO_COMPLETION_KEY, to_example

BATCH = 16_384  # rows in each record batch but the last, so that a row is found by division
SCHEMA = pa.schema(
    [
        ("id", pa.uint64()),
        ("prompt", pa.string()),  # null: plain text without a prompt
        ("chat", pa.bool_()),  # the prompt is JSON: a list of Message.to_list
        ("completion", pa.string()),
        ("extras", pa.string()),  # JSON of the fields of an example from reasoning on that are set
        ("metadata", pa.string()),  # JSON, or null
        ("prompt_key", pa.uint64()),  # hash of the prompt without case and the spaces around it
        ("completion_key", pa.uint64()),
        ("file", pa.int32()),
        ("split", pa.int8()),  # of the file; -1: yet to be split
        ("row", pa.int64()),
        ("schema", pa.int16()),
    ]
)
Index = npt.NDArray[np.int64]


def hex_ids(ids: npt.NDArray[np.uint64]) -> pa.StringArray:
    """Return the ids in the form of `DataExample.id`: 16 hex digits each."""
    pieces = [ids[at : at + BATCH].astype(">u8").tobytes().hex().encode() for at in range(0, len(ids), BATCH)]
    digits = pa.py_buffer(b"".join(pieces))
    offsets = np.arange(0, 16 * len(ids) + 1, 16, dtype=np.int32)  # enough for 134 million ids
    return pa.StringArray.from_buffers(len(ids), pa.py_buffer(offsets), digits)


class TemporaryFolder:
    """A folder that is deleted when this object is garbage-collected."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="kamerton-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class StoreWriter:
    """A writer of the row store, which buffers one batch."""

    def __init__(self, path: Path, files: list[str]) -> None:
        self._file = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._file, SCHEMA.with_metadata({"files": json.dumps(files)}))
        self._columns: list[list[Any]] = [[] for _ in SCHEMA]
        self.rows = 0

    def add(self, values: Sequence[Any]) -> None:
        """Append one row, its values in the order of `SCHEMA`."""
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)
        self.rows += 1
        if self.rows % BATCH == 0:
            self._flush()

    def _flush(self) -> None:
        arrays = [pa.array(values, field.type) for values, field in zip(self._columns, SCHEMA, strict=True)]
        self._writer.write_batch(pa.record_batch(arrays, schema=SCHEMA))
        for column in self._columns:
            column.clear()

    def close(self) -> None:
        if self._columns[0]:
            self._flush()
        self._writer.close()
        self._file.close()


class Store:
    """The row store, opened for reading; it holds a reference to `keep_alive`."""

    def __init__(self, path: Path, keep_alive: object = None) -> None:
        self.path = path
        self._keep_alive = keep_alive
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self.files: list[str] = json.loads(reader.schema.metadata[b"files"])
        self.batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        self.rows = sum(batch.num_rows for batch in self.batches)

    def scan(self, *names: str) -> Iterator[pa.RecordBatch]:
        """Yield the batches of these columns in order, without a memory map, whose pages would stay resident."""
        fields = [SCHEMA.get_field_index(name) for name in names]
        with pa.OSFile(str(self.path)) as file:
            reader = pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=fields))
            for i in range(reader.num_record_batches):
                yield reader.get_batch(i).select(list(names))

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a numeric column: [rows]."""
        result = np.empty(self.rows, SCHEMA.field(name).type.to_pandas_dtype())
        at = 0
        for batch in self.scan(name):
            result[at : at + batch.num_rows] = batch.column(0).to_numpy()
            at += batch.num_rows
        return result

    def value(self, row: int, name: str) -> Any:
        return self.batches[row // BATCH].column(name)[row % BATCH].as_py()

    def location(self, row: int) -> tuple[str, int]:
        """Return the file of a row and its row number there."""
        return self.files[int(self.value(row, "file"))], int(self.value(row, "row"))

    def take(self, name: str, index: Index) -> pa.ChunkedArray:
        """Return the values of a column at the rows `index`, in that order; reads batch by batch."""
        order = np.argsort(index, kind="stable")
        parts = []
        for number, batch in enumerate(self.batches):
            low, high = np.searchsorted(index, [number * BATCH, (number + 1) * BATCH], sorter=order)
            if high > low:
                parts.append(batch.column(name).take(pa.array(index[order[low:high]] - number * BATCH)))
        joined = pa.chunked_array(parts, SCHEMA.field(name).type)
        inverse = np.empty(len(index), np.int64)
        inverse[order] = np.arange(len(index))
        return joined.take(pa.array(inverse))


class Examples(Sequence[DataExample]):
    """A view of rows of a store, in a given order (a row may occur more than once).

    `pool` is all rows that views of this data set may contain, ascending; all splits and folds share its encoding.
    `parts` are the parts of the rows that are viewed (`kamerton.data.parts`); None: the whole rows.
    """

    def __init__(self, store: Store, rows: Index, pool: Index | None = None, parts: Index | None = None) -> None:
        self.store = store
        self.rows = rows
        self.pool = np.unique(rows) if pool is None else pool
        self.parts = parts

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, position: int) -> DataExample: ...
    @overload
    def __getitem__(self, position: slice) -> Examples: ...
    def __getitem__(self, position: int | slice) -> DataExample | Examples:
        if isinstance(position, slice):
            return self.select(self.rows[position], None if self.parts is None else self.parts[position])
        row = int(self.rows[position])
        get = self.store.value
        example = to_example(*(get(row, name) for name in ("prompt", "chat", "completion", "metadata", "extras")))
        return example if self.parts is None else part_of(example, int(self.parts[position]))

    def __iter__(self) -> Iterator[DataExample]:
        return (self[i] for i in range(len(self)))

    def select(self, rows: Index, parts: Index | None = None) -> Examples:
        """Return a view of other rows of the same store, or of parts of them."""
        return Examples(self.store, np.asarray(rows, np.int64), self.pool, parts)

    @property
    def id_numbers(self) -> npt.NDArray[np.uint64]:
        ids: npt.NDArray[np.uint64] = self.store.column("id")[self.rows]
        if self.parts is not None:
            for i in np.flatnonzero(self.parts != WHOLE).tolist():
                ids[i] = part_id(int(ids[i]), int(self.parts[i]))
        return ids

    @property
    def ids(self) -> pa.StringArray:
        """`DataExample.id` of each example."""
        return hex_ids(self.id_numbers)

    @property
    def completions(self) -> pa.ChunkedArray:
        """The completions of the rows."""
        return self.store.take("completion", self.rows)

    @property
    def is_answered(self) -> npt.NDArray[np.bool_]:
        """`DataExample.is_answered` of each example: [examples]."""
        answered: npt.NDArray[np.bool_] = self.store.column("completion_key")[self.rows] != NO_COMPLETION_KEY
        return answered if self.parts is None else answered | (self.parts > WHOLE)

    @property
    def fingerprint(self) -> str:
        """Hash of the examples' ids in order."""
        return hashlib.blake2b(self.id_numbers.astype("<u8").tobytes(), digest_size=16).hexdigest()
