"""CSV records with their line numbers; a record that does not match the header is a fault."""

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

    `unquoted` is the fix for a file in which quotes are ordinary characters.
    """
    csv.field_size_limit(FIELD_LIMIT)
    pending: list[Fault] = []  # faults of the lines of the next record
    reader = csv.reader(_texts(lines, pending), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    begun = 1
    while True:
        try:
            fields = next(reader, None)
            fault = pending[0] if pending else None
        except csv.Error as error:
            fields, fault = [""], _csv_fault(error, file, begun, reader.line_num, unquoted)
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
        if fault is not None and fault.code == "unreadable-file":
            yield 0, fault
            return
        if fault is None and len(fields) != len(header):
            message = f"the row has {len(fields)} fields and the header {len(header)}"
            fault = Fault("wrong-field-count", message, "quote fields that contain the delimiter", file)
        if fault is None and unquoted and any("\n" in field and delimiter in field for field in fields):
            message = f"a field that begins with a quote spans all lines up to {reader.line_num}"
            fix = f'write a quote within a field as "", or read quotes as ordinary characters: {unquoted}'
            fault = Fault("bad-csv", message, fix, file)
        yield line, fault or dict(zip(header, fields, strict=True))


def _texts(lines: Iterator[tuple[str, Fault | None]], pending: list[Fault]) -> Iterator[str]:
    """Yield the text of each line; its fault is added to `pending`."""
    for text, fault in lines:
        if fault is not None:
            pending.append(fault)
        yield text


def _csv_fault(error: csv.Error, file: str, begun: int, line: int, unquoted: str) -> Fault:
    literal = f", or read quotes as ordinary characters: {unquoted}" if unquoted else ""
    if "unexpected end" in str(error):
        message = f"a quote opened on line {begun} is never closed"
        fix = f'close it; write a quote within a field as ""{literal}'
        return Fault("unreadable-file", message, fix, file)
    if "new-line character" in str(error):
        message = "line ends with a bare carriage return (classic Mac line ending)"
        return Fault("bad-csv", message, "end every line with a line feed", file)
    message = f"not CSV: {error} (line {line})"
    return Fault(
        "bad-csv", message, f'quote fields that contain quotes, and write a quote in them as ""{literal}', file
    )


def _header_fault(header: list[str], fault: Fault | None, file: str) -> Fault | None:
    """Return the fault of a header that cannot be used, which makes the whole file unusable."""
    if fault is not None:
        return Fault("unreadable-file", f"in the header, {fault.message}", fault.fix, file)
    repeated = next((name for name in header if header.count(name) > 1), None)
    if repeated is not None:
        return Fault("duplicate-column", f"two columns are named {repeated!r}", "rename one", file, column=repeated)
    return None
