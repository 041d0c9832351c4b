"""Reading files as raw rows, one at a time.

`read_rows` yields `(number, record)`: the row's number in the file, and either a dict of its fields or a `Fault`, so
that every row of the input is accounted for. The number is the line at which the row begins (1-based, as editors count;
the header of a CSV file is line 1) or, in a Parquet file, that of the record; 0 stands for the whole file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from kamerton.data.data_file import DataFile
from kamerton.data.read.files.arrow import arrow_rows
from kamerton.data.read.files.containers import DAMAGE, open_data, seekable
from kamerton.data.read.files.detect import BINARY
from kamerton.data.read.files.encodings import encoding_advice, national_encoding, wide_encoding
from kamerton.data.read.files.lines import SAMPLE, UTF8, decoded_lines
from kamerton.data.read.files.parquet import parquet_rows
from kamerton.data.read.files.sniff import HEAD, wrong_kind_fault
from kamerton.data.read.files.text_files import LINES, document_row, line_rows, parallel_rows
from kamerton.data.read.files.trec import trec_rows
from kamerton.data.read.json.document import json_rows
from kamerton.data.read.tables.cells import parsed_cells
from kamerton.data.read.tables.rows import table_rows
from kamerton.data.read.tables.workbooks import sheet_rows
from kamerton.errors import Fault

Row = tuple[int, dict[str, Any] | Fault]


def read_rows(file: DataFile, note: Callable[[str], None] = lambda text: None) -> Iterator[Row]:
    """Yield the rows of a file, in order; `note` is called with what was detected, such as the delimiter."""
    try:
        with open_data(file) as stream:
            head = stream.peek(HEAD)[:HEAD]
        if file.encoding == "auto":
            encoding = None if file.format in BINARY else wide_encoding(head) or _national_encoding(file)
            file = replace(file, encoding=encoding or "utf-8")
        fault = wrong_kind_fault(head, file)
        if fault is not None:
            yield 0, fault
        elif file.format in ("parquet", "arrow"):
            note("Parquet" if file.format == "parquet" else "Arrow")
            with seekable(file) as source:
                rows = parquet_rows(source, file.name) if file.format == "parquet" else arrow_rows(source, file.name)
                yield from parsed_cells(rows, file.columns, file.name)
        elif file.format == "xlsx":
            with seekable(file) as source:
                yield from parsed_cells(sheet_rows(source, file, note), file.columns, file.name)
        else:
            yield from _text_rows(file, note)
    except DAMAGE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        yield 0, Fault("unreadable-file", f"the file is truncated or damaged: {reason}", "write it again", file.name)
    except UnicodeError as error:
        fix = f"save the file as {file.encoding}, or set data.encoding to its encoding"
        yield 0, Fault("unreadable-file", f"the file is not {file.encoding}: {error}", fix, file.name)


def _national_encoding(file: DataFile) -> str | None:
    with open_data(file) as stream:
        return national_encoding(stream)


def _text_rows(file: DataFile, note: Callable[[str], None]) -> Iterator[Row]:
    def advise() -> str:
        with open_data(file) as stream:
            return encoding_advice(stream.read(SAMPLE).split(b"\n"), file.encoding)

    if file.encoding.lower() not in UTF8:
        note(f"encoding {file.encoding}")
    if file.format == "jsonl":
        yield from json_rows(file, note, advise)
        return
    with open_data(file) as stream:
        if file.format == "text" and file.records != LINES:
            yield from document_row(stream, file, note, advise)
            return
        lines = decoded_lines(stream, file.name, file.encoding, advise)
        if file.format == "csv":
            note("table")
            yield from parsed_cells(table_rows(lines, file, note), file.columns, file.name)
        elif file.format == "text":
            yield from line_rows(lines, note)
        elif file.format == "parallel":
            yield from parallel_rows(lines, file, note, advise)
        else:
            note("TREC questions")
            yield from trec_rows(lines, file.name)
