"""Records of tables with their line numbers; every line belongs to a record or to a fault."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator

from kamerton.data.read.tables.dialect import FIELD_LIMIT, Dialect
from kamerton.errors import Fault

Record = tuple[int, list[str] | Fault]


def csv_records(
    lines: Iterator[tuple[str, Fault | None]],
    file: str,
    dialect: Dialect,
    unquoted: Callable[[], str],
    first_line: int = 1,
) -> Iterator[Record]:
    """Yield `(line at which the record begins, fields or fault)`; a fault of the file has the line 0.

    Each line of a record that cannot be read has its own fault. `unquoted` returns the command for a file in which
    quotes are ordinary characters; `first_line` is the number of the first line.
    """
    csv.field_size_limit(FIELD_LIMIT)
    texts: list[str] = []  # the lines of the next record
    faults: list[Fault] = []
    reader = csv.reader(_texts(lines, texts, faults), delimiter=dialect.delimiter, strict=True, **dialect.quoting)
    while True:
        fields: list[str] | None = []
        fault = None
        try:
            fields = next(reader, None)
        except csv.Error as error:
            fault = _csv_fault(error, file, first_line, unquoted)
        if fields is None:
            return
        if fault is not None and fault.code == "unreadable-file":
            yield 0, fault
            return
        if fault is None and len(texts) > 1 and dialect.swallows(texts):
            message = f"a field that begins with a quote spans the lines {first_line} to {first_line + len(texts) - 1}"
            fix = f'write a quote within a field as "", or read quotes as ordinary characters: {unquoted()}'
            fault = Fault("bad-csv", message, fix, file)
        if fault is not None or faults:
            lines_of_faults = (i for i, text in enumerate(texts) if text.strip() or faults)
            yield from ((first_line + i, fault or faults[0]) for i in lines_of_faults)
        elif fields:
            yield first_line, fields
        first_line += len(texts)
        texts.clear()
        faults.clear()


def _texts(lines: Iterator[tuple[str, Fault | None]], texts: list[str], faults: list[Fault]) -> Iterator[str]:
    """Yield the text of each line; it is added to `texts`, and its fault to `faults`."""
    for text, fault in lines:
        texts.append(text)
        if fault is not None:
            faults.append(fault)
        yield text


def _csv_fault(error: csv.Error, file: str, line: int, unquoted: Callable[[], str]) -> Fault:
    if "unexpected end" in str(error):
        message = f"a quote opened on line {line} is never closed"
        fix = f'close it; write a quote within a field as "", or read quotes as ordinary characters: {unquoted()}'
        return Fault("unreadable-file", message, fix, file)
    if "new-line character" in str(error):
        message = "line ends with a bare carriage return (classic Mac line ending)"
        return Fault("bad-csv", message, "end every line with a line feed", file)
    fix = f'quote fields that contain quotes, and write a quote in them as "", or read quotes as text: {unquoted()}'
    return Fault("bad-csv", f"not CSV: {error} (record of line {line})", fix, file)
