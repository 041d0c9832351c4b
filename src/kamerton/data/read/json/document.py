"""Rows of JSON documents: arrays, objects that hold records, and objects one after another."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import PurePath
from typing import Any

import orjson

from kamerton.data.data_file import DataFile
from kamerton.data.read.files.containers import open_data
from kamerton.data.read.files.lines import decoded_lines
from kamerton.data.read.json.lines import Row, as_record, line_rows, parse_object, repeated_key_fault
from kamerton.data.read.json.object import LARGE, Form, find_form
from kamerton.data.read.json.shape import (
    MISSING,
    has_usual_name,
    is_scalar,
    nested_records,
    path_steps,
    record_paths,
    table_rows,
    with_id,
    with_intent,
)
from kamerton.data.read.json.stream import JsonStream, JsonSyntaxError
from kamerton.data.read.tables.header import header_setting, propose_names
from kamerton.errors import Fault

UNDECODED = re.compile("[\udc80-\udcff]")
MAX_LINES = 20  # that are inspected
Note = Callable[[str], None]
Read = Callable[[JsonStream], Any]  # returns the next value, or its fault


def json_rows(file: DataFile, note: Note, advise: Callable[[], str]) -> Iterator[Row]:
    """Yield the rows of a JSON file: of its lines, or of the document that it is."""
    is_whole = is_document(file)
    fault = _list_fault(file, is_whole)
    if fault is not None:
        yield 0, fault
        return
    unused = _unused_header(file, is_whole)
    if unused is not None:
        yield 0, unused
    if is_whole:
        yield from document_rows(file, note, advise)
        return
    note(f"JSON Lines, records below {file.records!r}" if file.records else "JSON Lines")
    with open_data(file) as stream:
        lines = decoded_lines(stream, file.name, file.encoding, advise)
        rows = line_rows(lines, file.name, _names(file))
        if not file.records:
            yield from rows
            return
        for number, value in rows:
            for record in _at_path(value, file.records, {}, file):
                yield number, record if isinstance(record, Fault) else as_record(record, file.name, _names(file))


def _names(file: DataFile) -> list[str] | None:
    return file.header if isinstance(file.header, list) else None


def _list_fault(file: DataFile, is_whole: bool) -> Fault | None:
    """Return the fault of records that are lists of equal length without `data.header`, which names their items."""
    records: list[list[Any]] = []
    with open_data(file) as stream, suppress(JsonSyntaxError, OverflowError, RecursionError):
        reader = JsonStream(stream, file.encoding)
        if file.records or _names(file) or reader.peek() != "[":
            return None
        places = reader.items() if is_whole else iter(reader.peek, "")
        for _ in islice(places, MAX_LINES):
            value, _ = reader.value()
            if not isinstance(value, list) or len(value) < 2 or not all(map(is_scalar, value)):
                return None
            records.append(value)
    if not records or len({len(record) for record in records}) > 1:
        return None
    setting = header_setting(propose_names([[str(item) for item in record] for record in records]))
    return Fault("unreadable-file", "the records are lists, not objects with named fields", f"add {setting}", file.name)


def _unused_header(file: DataFile, is_whole: bool) -> Fault | None:
    """Return a warning if `data.header` is given, and the first record is an object, whose keys are the names."""
    if file.header is None or file.records:
        return None
    with open_data(file) as stream, suppress(JsonSyntaxError, OverflowError, RecursionError):
        reader = JsonStream(stream, file.encoding)
        if is_whole and (reader.peek() != "[" or next(reader.items(), None) is None):
            return None
        if reader.peek() == "{":
            message = "data.header has no effect: the records are objects, whose keys are the names"
            fix = "leave it out: data.header=null"
            return Fault("unused-setting", message, fix, file.name, column="data.header", severity="warning")
    return None


def is_document(file: DataFile) -> bool:
    """Return whether a JSON file is one value, or values over several lines, instead of one on each line."""
    with open_data(file) as stream:
        lines = decoded_lines(stream, file.name, file.encoding, str)
        texts = list(islice((text for text, fault in lines if fault or text.strip()), MAX_LINES))
    first, others = (texts or [""])[0], texts[1:]
    if not texts or (first and not first.lstrip("\ufeff \t").startswith(("{", "["))):
        return False
    try:
        value = orjson.loads(first)
    except orjson.JSONDecodeError:
        return _spans_lines(file, first, others)
    if isinstance(value, dict) and {".jsonl", ".ndjson"} & set(PurePath(file.name).suffixes):
        holds_records = any(path in value for path, _ in record_paths(value, file.columns))
        return not others and holds_records and not has_usual_name(value, file.columns)
    return not others


def _spans_lines(file: DataFile, first: str, others: list[str]) -> bool:
    """Return whether the file begins with a JSON value over several lines, of which `first` is not one by itself.

    `first` is empty if the line is too long to be a record.
    """
    with open_data(file) as stream:
        reader = JsonStream(stream, file.encoding)
        if reader.peek() == "[":
            return True
        if not first:
            return not others
        try:
            value, text = reader.value()
        except (JsonSyntaxError, OverflowError, RecursionError):
            are_lines = any(isinstance(parse_object(line, file.name), dict) for line in others)
            return first.rstrip().endswith(("{", "[", ",", ":")) and not are_lines
        return isinstance(value, dict) and "\n" in text


def document_rows(file: DataFile, note: Note, advise: Callable[[], str]) -> Iterator[Row]:
    """Yield `(number of the record, object or fault)` of a JSON document; a fault of the file has the number 0."""
    number = 0

    def read(reader: JsonStream) -> Any:
        return _next(reader, file, advise)

    try:
        for record in _records(file, note, read):
            if isinstance(record, Fault) and record.code in ("unreadable-file", "not-read"):
                yield 0, record
                continue
            number += 1
            yield number, record if isinstance(record, Fault) else as_record(record, file.name, _names(file))
    except JsonSyntaxError as error:
        message = f"not JSON: {error.message} (record {number + 1}, line {error.line}, column {error.column})"
        yield 0, Fault("unreadable-file", message, "correct that place; the records after it cannot be read", file.name)
    except RecursionError:
        message = f"record {number + 1} is nested too deeply"
        yield 0, Fault("unreadable-file", message, "nest less deeply", file.name)


def _next(reader: JsonStream, file: DataFile, advise: Callable[[], str]) -> Any:
    """Return the next value of a document, or its fault."""
    try:
        value, text = reader.value(LARGE)
    except OverflowError as error:
        return Fault("bad-json", f"not JSON: {error}", "write null for a missing value", file.name)
    if not text.isascii() and (match := UNDECODED.search(text)):
        byte = ord(match.group()) - 0xDC00
        message = f"the record has the byte 0x{byte:02x}, which is not {file.encoding}"
        return Fault("undecodable-byte", message, advise(), file.name)
    return repeated_key_fault(text, value, file.name) or value


def _records(file: DataFile, note: Note, read: Read) -> Iterator[Any]:
    """Yield the records of a document; a fault of the file ends it, unless it is a warning."""
    with open_data(file) as stream:
        reader = JsonStream(stream, file.encoding)
        if reader.peek() == "[":
            note(f"JSON array, records below {file.records!r}" if file.records else "JSON array")
            for _ in reader.items():
                yield from _at_path(read(reader), file.records, {}, file)
            if reader.peek():
                raise reader.error("there is more behind the end of the array")
            return
        form = find_form(reader, file)
    yield from form.faults
    if any(fault.severity == "error" for fault in form.faults):
        return
    note(form.note)
    with open_data(file) as stream:
        yield from _object_records(JsonStream(stream, file.encoding), form, file, read)


def _object_records(reader: JsonStream, form: Form, file: DataFile, read: Read) -> Iterator[Any]:
    if form.kind == "objects":
        while reader.peek():
            yield from _at_path(read(reader), file.records, {}, file)
    elif form.kind == "table":
        value = read(reader)
        yield from [value] if isinstance(value, Fault) else table_rows(value)
    else:
        for key in reader.members():
            yield from _member_records(key, reader, form, file, read)


def _member_records(key: str, reader: JsonStream, form: Form, file: DataFile, read: Read) -> Iterator[Any]:
    """Yield the records below a key of an object."""
    if form.kind == "ids":
        record = read(reader)
        yield with_id(key, record) if isinstance(record, dict) else record
    elif form.kind == "intents":
        for _ in reader.items():
            yield with_intent(read(reader), key)
    elif key != form.key:
        reader.value(LARGE)
    elif reader.peek() == "[":
        for _ in reader.items():
            yield from _at_path(read(reader), form.path, form.carried, file)
    else:
        yield from _at_path(read(reader), form.path, form.carried, file)


def _at_path(value: Any, path: str | None, carried: dict[str, Any], file: DataFile) -> Iterator[Any]:
    """Yield the records at a path in a value."""
    if isinstance(value, Fault):
        yield value
        return
    for record in nested_records(value, path_steps(path or ""), carried):
        if record is MISSING:
            message = f"nothing is at {path!r} in this record"
            yield Fault("missing-field", message, "correct data.records, or leave it out", file.name)
        else:
            yield record
