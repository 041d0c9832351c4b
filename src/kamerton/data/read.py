"""Reading files into raw rows, one at a time.

`read_rows` yields `(row, record)`: the 1-based row number and either a dict of that row's fields or the `Fault` that
stands in its place, so that every row that comes in is accounted for. The row is the line of a JSONL file and the record
of a CSV file, whose header does not count.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from kamerton.data.trec import read_trec
from kamerton.errors import Fault

Row = tuple[int, "dict[str, Any] | Fault"]
BOM = b"\xef\xbb\xbf"
UTF8 = ("utf-8", "utf8", "utf-8-sig")


def read_rows(path: Path, format: str, encoding: str = "utf-8") -> Iterator[Row]:
    """The rows of one file, in order."""
    if format == "parquet":
        yield from _parquet(path)
        return
    with open_bytes(path) as stream:
        lines = decoded_lines(stream, str(path), encoding)
        if format == "jsonl":
            yield from _jsonl(lines, str(path))
        elif format == "csv":
            delimiter = "\t" if ".tsv" in path.suffixes else ","
            yield from _csv(lines, str(path), delimiter)
        else:
            yield from read_trec(lines, str(path))


def open_bytes(path: Path) -> IO[bytes]:
    """A file to read, unpacked on the way if its name ends in .gz or .zst."""
    if path.suffix.lower() in (".gz", ".zst"):
        return io.BufferedReader(pa.input_stream(str(path), compression="detect"))
    return open(path, "rb")


def decoded_lines(stream: IO[bytes], file: str, encoding: str) -> Iterator[tuple[str, Fault | None]]:
    """Each line as text, with a fault if bytes of it are not in the encoding (then they are surrogate-escaped)."""
    offset = 0
    plain = encoding.lower() in UTF8
    for line in stream:
        start, offset = offset, offset + len(line)
        if start == 0 and plain and line.startswith(BOM):
            line = line[len(BOM) :]
            start += len(BOM)
        try:
            yield line.decode("utf-8" if plain else encoding), None
        except UnicodeDecodeError as error:
            yield line.decode("utf-8", "surrogateescape"), _undecodable(error, file, encoding, start)


def _undecodable(error: UnicodeDecodeError, file: str, encoding: str, start: int) -> Fault:
    byte = error.object[error.start]
    message = f"byte 0x{byte:02x} at offset {start + error.start:,} of the file is not {encoding}"
    fix = f"save the file as {encoding}, or set data.encoding to what it is (often latin-1 or cp1252)"
    return Fault("undecodable-byte", message, fix, file)


def _jsonl(lines: Iterator[tuple[str, Fault | None]], file: str) -> Iterator[Row]:
    for number, (line, fault) in enumerate(lines, 1):
        if fault is not None:
            yield number, fault
        elif line and not line.isspace():
            yield number, _json_object(line, file)


def _json_object(line: str, file: str) -> dict[str, Any] | Fault:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        message = f"not JSON: {error.msg} (character {error.colno})"
        return Fault("bad-json", message, "write one JSON object per line", file)
    except UnicodeEncodeError:
        return Fault("bad-json", "not JSON: it holds half a surrogate pair", "write valid Unicode", file)
    if isinstance(value, dict):
        return value
    message = f"the line is JSON, but {_json_type(value)} where an object is needed"
    return Fault("not-an-object", message, 'write {"prompt": ..., "completion": ...} on each line', file)


def _json_type(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _csv(lines: Iterator[tuple[str, Fault | None]], file: str, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)
    undecodable: list[Fault] = []

    def texts() -> Iterator[str]:
        for line, fault in lines:
            if fault is not None:
                undecodable.append(fault)
            yield line

    reader = csv.reader(texts(), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    number = 0
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            number += 1
            yield (
                number,
                Fault(
                    "bad-csv",
                    f"not CSV: {error} (line {reader.line_num})",
                    "quote fields that hold quotes",
                    file,
                ),
            )
            continue
        if fields is None:
            return
        if header is None:
            header = fields
            if undecodable:
                yield 0, undecodable.pop(0)
                undecodable.clear()
            continue
        if not fields:
            continue
        number += 1
        if undecodable:
            yield number, undecodable.pop(0)
            undecodable.clear()
        elif len(fields) != len(header):
            message = f"the row has {len(fields)} fields and the header {len(header)}"
            yield number, Fault("wrong-field-count", message, "quote fields that hold the delimiter", file)
        else:
            yield number, dict(zip(header, fields, strict=True))


def _parquet(path: Path) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=8192):
                for record in batch.to_pylist():
                    number += 1
                    yield number, record
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        yield (
            0,
            Fault("bad-parquet", f"not a readable Parquet file: {first}", "write the file again", str(path)),
        )
