"""Rows of tables: files of records with a delimiter (CSV, TSV), whose header names the columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import orjson

from kamerton.data.options import DataFile
from kamerton.data.read.commands import comma_separated, new_name, path_setting, rename_command, with_ending
from kamerton.data.read.containers import open_data
from kamerton.data.read.csv_rows import csv_rows
from kamerton.data.read.json_lines import not_lines_fault
from kamerton.data.read.lines import SAMPLE, UTF8, Line
from kamerton.data.read.sniff import wrong_delimiter_fault
from kamerton.errors import Fault


def table_rows(lines: Iterator[Line], file: DataFile) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    """Yield the rows of a table, whose header must have the delimiter of the file's ending."""
    delimiter = "\t" if ".tsv" in file.path.suffixes else ","
    header = next(lines, None)
    if header is None:
        return
    fault = _json_in_table_fault(header[0], file)
    if fault is None:
        fault = wrong_delimiter_fault(header[0], file, delimiter, _codec(file))
    if fault is not None:
        yield 0, fault
        return
    unquoted = ""
    if delimiter == "\t":
        unquoted = comma_separated(file.path, delimiter, _codec(file), quotes=False)
        unquoted += f", then {path_setting(new_name(file.path, '.csv'), file.split)}"
    yield from csv_rows(chain([header], lines), file.name, delimiter, unquoted)


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


def _json_in_table_fault(header: str, file: DataFile) -> Fault | None:
    """Return the fault of a file that is named as a table and contains JSON."""
    if not header.startswith(("{", "[")):
        return None
    fault = not_lines_fault(header, file, alone=False)
    if fault is not None:
        fix = f"{fault.fix}, then {path_setting(new_name(file.path, '.jsonl'), file.split)} data=jsonl"
        return replace(fault, fix=fix)
    try:
        orjson.loads(header)
    except orjson.JSONDecodeError:
        return None
    fix = f"{rename_command(file.path, with_ending(file.path, '.jsonl'), file.split)} data=jsonl"
    return Fault("unreadable-file", "the lines of this file are JSON, not a table", fix, file.name)
