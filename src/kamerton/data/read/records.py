"""Reading files into raw rows, one at a time.

`read_rows` yields `(row, record)`: where the row stands and either a dict of its fields or the `Fault` that stands in
its place, so that every row that comes in is accounted for. It stands at the line at which it begins (1-based, as
editors count; the header of a CSV file is line 1) or, in a Parquet file, at the number of its record; 0 is the file as
a whole.
"""

from __future__ import annotations

import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from kamerton.data.options import DataFile
from kamerton.data.read.commands import comma_separated, name_as, reading, renamed, target
from kamerton.data.read.csv_rows import csv_rows
from kamerton.data.read.encodings import encoding_advice
from kamerton.data.read.json_file import LARGEST, json_file, records, whole_value
from kamerton.data.read.schema import CHAT_NAMES, COMPLETION_NAMES, PROMPT_NAMES
from kamerton.data.read.sniff import HEAD, foreign, other_table
from kamerton.data.read.sources import PACKED
from kamerton.data.read.trec import trec_rows
from kamerton.errors import Fault

Row = tuple[int, dict[str, Any] | Fault]
Line = tuple[str, Fault | None]  # a line as text, and the fault that makes it unusable
BOM = b"\xef\xbb\xbf"
UTF8 = ("utf-8", "utf8", "utf-8-sig", "utf_8")
MAGIC = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd"}
LOOKED_AT = 4 * 2**20  # bytes of a file with another encoding
LONGEST_LINE = 64 * 2**20  # bytes
KEY_END = re.compile(r'(?<!\\)"[ \t\r\n]*:')


def read_rows(file: DataFile) -> Iterator[Row]:
    """Yield the rows of one file, in order."""
    name = str(file.path)
    try:
        if file.format == "parquet":
            yield from _parquet_rows(file.path)
            return
        with open_bytes(file.path) as stream:
            fault = foreign(stream.peek(HEAD)[:HEAD], file)
            if fault is not None:
                yield 0, fault
                return
            lines = decoded_lines(stream, name, file.encoding, partial(_advice, file))
            if file.format == "jsonl":
                yield from _json_rows(lines, file)
            elif file.format == "csv":
                yield from _table_rows(lines, file)
            else:
                yield from trec_rows(lines, name)
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        yield 0, _damaged(file, (str(error) or type(error).__name__).splitlines()[0])
    except UnicodeError as error:
        fix = f"save the file as {file.encoding}, or set data.encoding to what it is"
        yield 0, Fault("unreadable-file", f"the file is not {file.encoding}: {error}", fix, name)


def _damaged(file: DataFile, why: str) -> Fault:
    """Return the fault of a file that cannot be opened as what its name says: it is something else, or broken."""
    path, packing = file.path, MAGIC.get(file.path.suffix.lower())
    with open(path, "rb") as stream:
        head = stream.read(HEAD)
    if not head.startswith(packing or b"PAR1"):
        fault = foreign(head, file)
        if fault is not None:
            return fault
        if packing:
            message, fix = f"the file is named {path.suffix} and is not packed", renamed(path, path.stem, file.split)
            return Fault("unreadable-file", message, fix, str(path))
        if head.lstrip().startswith((b"{", b"[")):
            fix = f"{renamed(path, name_as(path, '.jsonl'), file.split)} data=jsonl"
            return Fault("unreadable-file", "this is JSON, not Parquet", fix, str(path))
    return Fault("unreadable-file", f"the file breaks off or is damaged: {why}", "write it again", str(path))


def _advice(file: DataFile) -> str:
    """Return what to do about bytes of this file that are not in its encoding."""
    with open_bytes(file.path) as stream:
        return encoding_advice(stream.read(LOOKED_AT).split(b"\n"), file.encoding)


def open_bytes(path: Path) -> io.BufferedReader:
    """Return a file to read, unpacked on the way if its name ends in .gz or .zst."""
    if path.suffix.lower() in PACKED:
        kind = "gzip" if path.suffix.lower() == ".gz" else "zstd"
        return io.BufferedReader(pa.input_stream(str(path), compression=kind))
    return open(path, "rb")


def decoded_lines(stream: IO[bytes], file: str, encoding: str, advise: Callable[[], str]) -> Iterator[Line]:
    """Yield each line as text, with a fault if bytes of it are not in the encoding or it is too long to be a row.

    `advise` is asked once what to do about such bytes.

    Raises UnicodeError where the whole file is in another encoding.
    """
    if "\n".encode(encoding) != b"\n" and encoding.lower() not in UTF8:
        for number, text in enumerate(io.TextIOWrapper(stream, encoding, newline="\n")):  # lines of UTF-16 and the like
            yield text if number else text.removeprefix("\ufeff"), None
        return
    codec = "utf-8" if encoding.lower() in UTF8 else encoding
    offset, fix = 0, ""
    while line := stream.readline(LONGEST_LINE):
        start, offset = offset, offset + len(line)
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            offset += _skip_line(stream)
            message = f"the line is longer than {LONGEST_LINE >> 20} MiB"
            yield "", Fault("row-too-large", message, "write one row on each line", file)
            continue
        if start == 0 and codec == "utf-8" and line.startswith(BOM):
            line, start = line[len(BOM) :], len(BOM)
        try:
            yield line.decode(codec), None
        except UnicodeDecodeError as error:
            fix = fix or advise()
            yield line.decode(codec, "replace"), _undecodable(error, file, codec, start, fix)


def _skip_line(stream: IO[bytes]) -> int:
    """Read to the end of the line; the number of bytes."""
    size = 0
    while piece := stream.readline(LONGEST_LINE):
        size += len(piece)
        if piece.endswith(b"\n"):
            break
    return size


def _undecodable(error: UnicodeDecodeError, file: str, encoding: str, start: int, fix: str) -> Fault:
    byte = error.object[error.start]
    message = f"byte 0x{byte:02x} at offset {start + error.start:,} of the file is not {encoding}"
    return Fault("undecodable-byte", message, fix, file)


def _table_rows(lines: Iterator[Line], file: DataFile) -> Iterator[Row]:
    """Yield rows of a table, whose header must be separated as the file's ending says."""
    delimiter = "\t" if ".tsv" in file.path.suffixes else ","
    header = next(lines, None)
    if header is None:
        return
    fault = _json_in_table(header[0], file)
    if fault is None:
        fault = other_table(header[0], file, delimiter, _codec(file))
    if fault is not None:
        yield 0, fault
        return
    unquoted = ""
    if delimiter == "\t":
        unquoted = comma_separated(file.path, delimiter, _codec(file), quotes=False)
        unquoted += f", then {reading(target(file.path, '.csv'), file.split)}"
    yield from csv_rows(chain([header], lines), str(file.path), delimiter, unquoted)


def _codec(file: DataFile) -> str:
    """Return what a table can be read in by another program: its encoding, or one that keeps every byte as it is."""
    with open_bytes(file.path) as stream:
        lines = stream.read(LOOKED_AT).splitlines(keepends=True)
    if file.encoding.lower() not in UTF8:
        return file.encoding
    try:
        b"".join(lines[:-1] or lines).decode()  # the last one may break off
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8-sig"


def _json_in_table(header: str, file: DataFile) -> Fault | None:
    """Return the fault of a file that is named as a table and holds JSON."""
    if not header.startswith(("{", "[")):
        return None
    fault = _one_value(header, file, alone=False)
    if fault is not None:
        fix = f"{fault.fix}, then {reading(target(file.path, '.jsonl'), file.split)} data=jsonl"
        return replace(fault, fix=fix)
    try:
        orjson.loads(header)
    except orjson.JSONDecodeError:
        return None
    fix = f"{renamed(file.path, name_as(file.path, '.jsonl'), file.split)} data=jsonl"
    return Fault("unreadable-file", "the lines of this file are JSON, not a table", fix, str(file.path))


def _json_rows(lines: Iterator[Line], file: DataFile) -> Iterator[Row]:
    name = str(file.path)
    numbered = (
        (number, line, fault) for number, (line, fault) in enumerate(lines, 1) if fault or (line and not line.isspace())
    )
    first = next(numbered, None)
    if first is None:
        return
    second = next(numbered, None)
    fault = _one_value(first[1], file, alone=second is None)
    if fault is not None:
        yield 0, replace(fault, fix=f"{fault.fix}, then {reading(target(file.path, '.jsonl'), file.split)}")
        return
    for number, line, fault in chain([first], [] if second is None else [second], numbered):
        yield number, fault or _json_object(line, name)


def _one_value(first: str, file: DataFile, *, alone: bool) -> Fault | None:
    """Return the fault of a file that is not an object on each line but one value, or values over many lines."""
    if not first.lstrip("\ufeff \t").startswith(("{", "[")):
        return None
    try:
        value = orjson.loads(first)
    except orjson.JSONDecodeError:
        if alone:
            return None
        with open_bytes(file.path) as stream:
            return json_file(stream.read(LARGEST).decode(file.encoding, "replace"), file.path)
    if not alone or not value:
        return None
    if isinstance(value, list):
        return whole_value(value, file.path) if isinstance(value[0], dict) else None
    known = (
        *PROMPT_NAMES,
        *COMPLETION_NAMES,
        *CHAT_NAMES,
        *(name for name in asdict(file.columns).values() if isinstance(name, str)),
    )
    return whole_value(value, file.path) if records(value) and not any(name in value for name in known) else None


def _json_object(line: str, file: str) -> dict[str, Any] | Fault:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        value = _with_nan(line) if "NaN" in line else None
        if value is None:
            message = f"not JSON: {error.msg} (character {error.colno})"
            return Fault("bad-json", message, "write one JSON object per line", file)
    if isinstance(value, dict):
        return (_repeated_key(line, file) if _may_repeat(line, value) else None) or value
    message = f"the line is JSON, but {_json_type(value)} where an object is needed"
    return Fault("not-an-object", message, 'write {"prompt": ..., "completion": ...} on each line', file)


def _with_nan(line: str) -> Any:
    """Return what Python's writer of JSON makes of values that are missing: `NaN`, which is null; None: it is not JSON."""
    try:
        return json.loads(line, parse_constant={"NaN": None}.__getitem__)
    except (ValueError, KeyError, RecursionError):
        return None


def _may_repeat(line: str, value: dict[str, Any]) -> bool:
    """Return whether the line may name more keys than `value` has, in it or in what it holds; False is certain.

    A quote before a colon ends a key, unless it is escaped or begins a text; an escaped backslash hides which.
    """
    if '\\\\"' in line:
        return True
    ends = line.count('":') - line.count('\\":')
    if " :" in line or "\t:" in line or "\r:" in line:
        ends = len(KEY_END.findall(line))
    keys = 0
    objects: list[dict[str, Any]] = [value]
    while objects:
        one = objects.pop()
        keys += len(one)
        for item in one.values():
            if item.__class__ is dict:
                objects.append(item)
            elif item.__class__ is list:
                objects += _objects(item)
    return ends != keys


def _objects(items: list[Any]) -> Iterator[dict[str, Any]]:
    """Yield the objects in a list, and in lists in it."""
    lists = [items]
    while lists:
        for item in lists.pop():
            if item.__class__ is dict:
                yield item
            elif item.__class__ is list:
                lists.append(item)


def _repeated_key(line: str, file: str) -> Fault | None:
    """Return a fault if an object names one key twice: a reader would silently keep the last value."""
    twice: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        counts = Counter(name for name, _ in pairs)
        twice.extend(name for name, count in counts.items() if count > 1)

    try:
        json.loads(line, object_pairs_hook=look, parse_int=len, parse_float=len)  # what a number is does not matter
    except RecursionError:
        return Fault("bad-json", "the line nests too deeply to look for repeated keys", "nest less deeply", file)
    if not twice:
        return None
    return Fault("repeated-key", f"the key {twice[0]!r} is there twice", "keep one of them", file, column=twice[0])


def _json_type(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _parquet_rows(path: Path) -> Iterator[Row]:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if len(set(names)) < len(names):
            double = next(name for name in names if names.count(name) > 1)
            message = f"two columns are named {double!r}"
            yield 0, Fault("duplicate-column", message, "rename one", str(path), column=double)
            return
        number = 0
        for batch in file.iter_batches(batch_size=8192):
            columns = [_values(column) for column in batch.columns]
            for values in zip(*columns, strict=True):
                number += 1
                yield number, dict(zip(names, values, strict=True))


def _values(column: pa.Array) -> list[Any]:
    """Return a column as Python values; what Python cannot express (nanoseconds, the year 100,000) as text; NaN is null."""
    try:
        values: list[Any] = _without_pandas(column).to_pylist()
    except (ValueError, OverflowError, ImportError):
        values = column.cast(pa.string()).to_pylist()
    return values if _without_floats(column.type) else [without_nan(value) for value in values]


def _without_floats(kind: pa.DataType) -> bool:
    """Return whether no value of this type is or holds a floating-point number."""
    if pa.types.is_dictionary(kind):
        return _without_floats(kind.value_type)
    return not pa.types.is_floating(kind) and all(_without_floats(kind.field(i).type) for i in range(kind.num_fields))


def without_nan(value: Any) -> Any:
    """Return NaN, also within lists and objects, as None: it is how pandas and numpy write that a number is missing."""
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, dict):
        return {name: without_nan(item) for name, item in value.items()}
    return None if value != value else value  # noqa: PLR0124 - NaN


def _without_pandas(column: pa.Array) -> pa.Array:
    """Return times in nanoseconds as microseconds: Arrow would give pandas' own types for them where pandas is installed.

    Raises ValueError where a time is no whole number of microseconds.
    """
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return column.cast(pa.timestamp("us", kind.tz))
    return column.cast(pa.duration("us")) if pa.types.is_duration(kind) and kind.unit == "ns" else column
