"""Rows of tables: files of records with a delimiter (CSV, TSV), whose header names the columns."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from kamerton.data.data_file import DataFile
from kamerton.data.options import DELIMITERS
from kamerton.data.read.files.commands import comma_separated
from kamerton.data.read.files.containers import open_data
from kamerton.data.read.files.detect import JSON
from kamerton.data.read.files.lines import SAMPLE, UTF8, Line
from kamerton.data.read.files.sniff import AUTO
from kamerton.data.read.tables.dialect import RECORDS, Dialect, delimiter_name, find_delimiters, find_dialect
from kamerton.data.read.tables.header import (
    column_names,
    data_signs,
    header_setting,
    propose_names,
    reading,
    title_fault,
)
from kamerton.data.read.tables.records import Record, csv_records
from kamerton.errors import Fault
from kamerton.shell import new_name, path_setting

Note = Callable[[str], None]


def table_rows(lines: Iterator[Line], file: DataFile, note: Note) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    """Yield the rows of a table; its delimiter, quoting and header are detected unless they are configured."""
    head, is_whole = _take(islice(lines, file.lines_above, None))
    fault = None
    if head and JSON.match(head[0][0]):
        fault = Fault("unreadable-file", "this is JSON, not a table", AUTO, file.name)
    elif head:
        fault = _delimiter_fault([text for text, _ in head[:RECORDS]], file)
    if fault is not None:
        yield 0, fault
        return
    skipped = 1 if head and _separator_line(head[0][0]) else 0
    lines = chain(head[skipped:], lines)
    dialect = _dialect([text for text, _ in head], file, is_whole, note)

    def unquoted() -> str:
        skip = skipped + file.lines_above
        command = comma_separated(file.path, dialect.delimiter, _codec(file), quotes=False, skip=skip)
        return f"{command}, then {path_setting(new_name(file.path, '.csv'), file.split)}"

    records = csv_records(lines, file.name, dialect, unquoted, 1 + skipped + file.lines_above)
    first = list(islice(records, RECORDS))
    names = _header(first, file, note)
    if isinstance(names, Fault):
        yield 0, names
        return
    if not isinstance(file.header, list):
        first = first[1:]
    for line, record in chain(first, records):
        if not isinstance(record, Fault) and len(record) != len(names):
            record = _field_count_fault(len(record), len(names), file)
        yield line, record if isinstance(record, Fault) else dict(zip(names, record, strict=True))


def _take(lines: Iterator[Line]) -> tuple[list[Line], bool]:
    """Take the lines that determine the dialect; also return whether they are all."""
    taken, size = [], 0
    for line in lines:
        taken.append(line)
        size += len(line[0])
        if size > SAMPLE:
            return taken, False
    return taken, True


def _separator_line(line: str) -> str | None:
    """Return the delimiter in Excel's `sep=` line."""
    return line.strip("\r\n")[4] if line.lower().startswith("sep=") and len(line.strip("\r\n")) == 5 else None


def _usual(file: DataFile) -> str:
    return "\t" if {".tsv", ".tab"} & set(Path(file.member or file.path).suffixes) else ","


def _delimiters(texts: Sequence[str], file: DataFile) -> list[str]:
    """Return the delimiter by the configuration, the `sep=` line, or the records; several if it is ambiguous."""
    if file.delimiter is not None:
        return [DELIMITERS.get(file.delimiter, file.delimiter)]
    separator = _separator_line(texts[0]) if texts else None
    return [separator] if separator else find_delimiters(texts, _usual(file))


def _delimiter_fault(texts: list[str], file: DataFile) -> Fault | None:
    """Return the fault of a table that two delimiters divide equally well."""
    plausible = _delimiters(texts, file)
    if len(plausible) == 1:
        return None
    line = next(text for text in texts if text.strip()).strip()
    readings = (f"data.delimiter={delimiter_name(sign)} reads {line.split(sign)[:4]}" for sign in plausible)
    message = f"its delimiter may be {' or '.join(map(delimiter_name, plausible))}"
    return Fault("unreadable-file", message, f"choose the right one: {', '.join(readings)}", file.name)


def _dialect(texts: list[str], file: DataFile, is_whole: bool, note: Note) -> Dialect:
    """Return the dialect of a table that begins with `texts`, and note what its name does not tell."""
    (delimiter,) = _delimiters(texts[:RECORDS], file)
    skipped = 1 if texts and _separator_line(texts[0]) else 0
    dialect = find_dialect(lambda: texts[skipped:], delimiter)
    if delimiter == "\t" and not is_whole:  # a stray quote anywhere decides
        dialect = find_dialect(lambda: islice(_all_lines(file), skipped + file.lines_above, None), delimiter)
    if delimiter != _usual(file):
        note(f"delimiter {delimiter_name(delimiter)}")
    if dialect.quote == "'":
        note("fields in single quotes")
    elif not dialect.quote:
        note("quotes are ordinary characters")
    return dialect


def _all_lines(file: DataFile) -> Iterator[str]:
    """Yield all lines of a file, for their delimiters and quotes alone: other characters may be wrong."""
    encoding = "latin-1" if "\n".encode(file.encoding) == b"\n" else file.encoding
    with open_data(file) as stream:
        yield from io.TextIOWrapper(stream, encoding, errors="replace", newline="\n")


def _header(first: list[Record], file: DataFile, note: Note) -> list[str] | Fault:
    """Return the names of the columns of a table that begins with these records."""
    name = file.name
    header = first[0][1] if first else []
    rows = [record for _, record in first[1:] if not isinstance(record, Fault)]
    if isinstance(header, Fault):
        return Fault("unreadable-file", f"in the header, {header.message}", header.fix, name)
    if isinstance(file.header, list):
        if first and len(file.header) != len(header):
            message = f"data.header names {len(file.header)} columns, and the first line has {len(header)}"
            return Fault("bad-value", message, f"set {header_setting(propose_names([header, *rows]))}", name)
        return file.header
    titled = [(line, record) for line, record in first if not isinstance(record, Fault)]
    if file.header is None and (fault := title_fault(titled, name)) is not None:
        return fault
    signs = data_signs(header, rows, file.columns) if file.header is None else []
    if signs:
        message = f"the first line is data, not a header: {', '.join(signs[:2])}"
        names = propose_names([header, *rows])
        fix = f"{header_setting(names)}{reading(names, header)}; if it is a header: data.header=first"
        return Fault("missing-header", message, fix, name)
    names, notes = column_names(header, rows)
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        return Fault("duplicate-column", f"two columns are named {repeated!r}", "rename one", name, column=repeated)
    for text in notes:
        note(text)
    return names


def _field_count_fault(fields: int, width: int, file: DataFile) -> Fault:
    message = f"the row has {fields} fields and the header {width}"
    fix = "quote fields that contain the delimiter"
    if width == 1:
        fix += ", or, if each line is one text, data.delimiter=tab"
    return Fault("wrong-field-count", message, fix, file.name)


def _codec(file: DataFile) -> str:
    """Return the encoding in which another program can read a table; latin-1, which keeps all bytes, as a fallback."""
    with open_data(file) as stream:
        lines = stream.read(SAMPLE).splitlines(keepends=True)
    if file.encoding.lower() not in UTF8:
        return file.encoding
    try:
        b"".join(lines[:-1] or lines).decode()  # the last line may be incomplete
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8-sig"
