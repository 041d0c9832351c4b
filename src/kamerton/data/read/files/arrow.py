"""Rows of Arrow data as plain Python values: Arrow files, and the record batches of Parquet files.

The names of class labels are taken from the metadata that the `datasets` library writes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from kamerton.errors import Fault

Rows = Iterator[tuple[int, dict[str, Any] | Fault]]
FILE, STREAM = b"ARROW1", b"\xff\xff\xff\xff"  # the first bytes of Arrow files in their two forms
END = b"\xff\xff\xff\xff\0\0\0\0"  # the last bytes of a stream


def is_arrow(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is an Arrow file."""
    return head.startswith((FILE, STREAM)) and head[4:8] != b"\0\0\0\0"


def arrow_rows(source: Path | IO[bytes], name: str) -> Rows:
    """Yield `(number of the record, fields)` of an Arrow file from 1; a fault of the file has the number 0."""
    file = pa.memory_map(str(source)) if isinstance(source, Path) else pa.PythonFile(source, "r")
    with file:
        if file.read(len(FILE)) == FILE:
            file.seek(0)
            reader = pa.ipc.open_file(file)
            batches: Iterable[pa.RecordBatch] = map(reader.get_batch, range(reader.num_record_batches))
        else:
            file.seek(max(file.size() - len(END), 0))
            if file.read(len(END)) != END:
                raise pa.ArrowInvalid("the stream has no end marker")
            file.seek(0)
            batches = reader = pa.ipc.open_stream(file)
        labels = class_labels(reader.schema, source)
        yield from batch_rows(batches, reader.schema, name, labels)


def batch_rows(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, name: str, labels: Mapping[str, list[str]]
) -> Rows:
    """Yield the rows of record batches; numbers of columns in `labels` are replaced by their names, -1 by None.

    Raises `pyarrow.ArrowInvalid` for a damaged batch.
    """
    repeated = next((name for name, count in Counter(schema.names).items() if count > 1), None)
    if repeated is not None:
        yield 0, Fault("duplicate-column", f"two columns are named {repeated!r}", "rename one", name, column=repeated)
        return
    number = 0
    for batch in batches:
        batch.validate(full=True)  # offsets and indices of a damaged file lead outside its buffers
        columns = [to_python(column) for column in batch.columns]
        for column, label in enumerate(schema.names):
            if label in labels:
                columns[column] = [_label_names(value, labels[label]) for value in columns[column]]
        for values in zip(*columns, strict=True):
            number += 1
            yield number, dict(zip(schema.names, values, strict=True))


def class_labels(schema: pa.Schema, source: object) -> dict[str, list[str]]:
    """Return the label names of columns with class labels, from the schema or from `dataset_info.json` beside it."""
    features = _features((schema.metadata or {}).get(b"huggingface", b"{}"), "info")
    info = source.with_name("dataset_info.json") if isinstance(source, Path) else None
    if not features and info is not None and info.is_file():
        features = _features(info.read_bytes())
    labels = {}
    for column, feature in features.items():
        while isinstance(feature, Mapping) and isinstance(feature.get("feature"), Mapping):
            feature = feature["feature"]  # of a list
        names = feature.get("names") if isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel" else None
        if isinstance(names, list) and all(isinstance(label, str) for label in names):
            labels[column] = names
    return labels


def _features(text: bytes, *keys: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    for key in (*keys, "features"):
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _label_names(value: Any, names: list[str]) -> Any:
    """Return the name of a label's number, also within lists; None for -1, which stands for a missing label."""
    if isinstance(value, list):
        return [_label_names(item, names) for item in value]
    if isinstance(value, int) and -1 <= value < len(names):
        return names[value] if value >= 0 else None
    return value


def to_python(column: pa.Array) -> list[Any]:
    """Return a column as Python values, NaN as None and maps as objects; values without a Python type become text.

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
    if _contains(kind, pa.types.is_map):
        values = [_without_maps(value, kind) for value in values]
    return [without_nan(value) for value in values] if _contains(kind, pa.types.is_floating) else values


def _contains(kind: pa.DataType, test: Callable[[pa.DataType], bool]) -> bool:
    """Return whether values of this type are or contain values for which `test` holds."""
    if pa.types.is_dictionary(kind):
        return _contains(kind.value_type, test)
    return test(kind) or any(_contains(kind.field(i).type, test) for i in range(kind.num_fields))


def _without_maps(value: Any, kind: pa.DataType) -> Any:
    """Return a value with objects in place of the pairs of maps."""
    if value is None:
        return None
    if pa.types.is_map(kind):
        return {str(key): _without_maps(item, kind.item_type) for key, item in value}
    if pa.types.is_struct(kind):
        return {field.name: _without_maps(value[field.name], field.type) for field in kind}
    return [_without_maps(item, kind.value_type) for item in value] if isinstance(value, list) else value


def without_nan(value: Any) -> Any:
    """Replace NaN by None, also within lists and objects: pandas and numpy write missing numbers as NaN."""
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, dict):
        return {name: without_nan(item) for name, item in value.items()}
    return None if value != value else value  # noqa: PLR0124 - NaN
