"""CSV records with their lines: the header names the fields, and a record that does not fit it is a fault."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from kamerton.errors import Fault

FIELD_LIMIT = 64 * 2**20  # characters


def csv_rows(
    lines: Iterator[tuple[str, Fault | None]], file: str, delimiter: str, unquoted: str = ""
) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    """Yield `(line at which the record begins, fields or fault)`; line 0 stands for the file or its header.

    `unquoted` is what to do about a file in which quotes are signs like others.
    """
    csv.field_size_limit(FIELD_LIMIT)
    pending: list[Fault] = []  # faults of the lines that the next record is made of
    reader = csv.reader(_texts(lines, pending), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    begun = 1
    while True:
        try:
            fields = next(reader, None)
            fault = pending[0] if pending else None
        except csv.Error as error:
            fields, fault = [""], _broken(error, file, begun, reader.line_num, unquoted)
        pending.clear()
        if fields is None:
            return
        line, begun = begun, reader.line_num + 1
        if not fields and fault is None:
            continue  # a blank line
        if header is None:
            header = fields
            fault = _header_fault(header, fault, file)
            if fault is not None:
                yield 0, fault
                return
            continue
        if fault is None and len(fields) != len(header):
            message = f"the row has {len(fields)} fields and the header {len(header)}"
            fault = Fault("wrong-field-count", message, "quote fields that hold the delimiter", file)
        if fault is None and unquoted and any("\n" in field and delimiter in field for field in fields):
            message = f"a quote that opens a field swallows the lines up to {reader.line_num}"
            fix = f'write a quote within a field as "", or take quotes for signs like others: {unquoted}'
            fault = Fault("bad-csv", message, fix, file)
        if fault is not None and fault.code == "unreadable-file":
            yield 0, fault
            return
        yield line, fault or dict(zip(header, fields, strict=True))


def _texts(lines: Iterator[tuple[str, Fault | None]], pending: list[Fault]) -> Iterator[str]:
    for text, fault in lines:
        if fault is not None:
            pending.append(fault)
        yield text


def _broken(error: csv.Error, file: str, begun: int, line: int, unquoted: str) -> Fault:
    literal = f", or take quotes for signs like others: {unquoted}" if unquoted else ""
    if "unexpected end" in str(error):
        message = f"a quote opened on line {begun} is never closed"
        fix = f'close it; write a quote within a field as ""{literal}'
        return Fault("unreadable-file", message, fix, file)
    if "new-line character" in str(error):
        message = "a line ends in a carriage return alone, as in files of old"
        return Fault("bad-csv", message, "end every line with a line feed", file)
    message = f"not CSV: {error} (line {line})"
    return Fault("bad-csv", message, f'quote fields that hold quotes, and write a quote in them as ""{literal}', file)


def _header_fault(header: list[str], fault: Fault | None, file: str) -> Fault | None:
    """Return Without its header nothing of the file can be used."""
    if fault is not None:
        return Fault("unreadable-file", f"in the header, {fault.message}", fault.fix, file)
    double = next((name for name in header if header.count(name) > 1), None)
    if double is not None:
        return Fault("duplicate-column", f"two columns are named {double!r}", "rename one", file, column=double)
    return None
