"""Rows of JSON Lines files: one object on each line, without repeated keys."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import chain
from typing import Any

import orjson

from kamerton.data.options import DataFile
from kamerton.data.read.commands import new_name, path_setting
from kamerton.data.read.containers import open_data
from kamerton.data.read.json_file import MAX_PARSED, multiline_json_fault, record_lists, single_value_fault
from kamerton.data.read.lines import Line
from kamerton.data.read.schema import CHAT_NAMES, COMPLETION_NAMES, PROMPT_NAMES
from kamerton.errors import Fault

KEY_END = re.compile(r'(?<!\\)"[ \t\r\n]*:')
TYPES = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}


def json_rows(lines: Iterator[Line], file: DataFile) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    """Yield `(line number, object or fault)` for each nonblank line; a fault of the file has the number 0."""
    numbered = (
        (number, line, fault) for number, (line, fault) in enumerate(lines, 1) if fault or (line and not line.isspace())
    )
    first = next(numbered, None)
    if first is None:
        return
    second = next(numbered, None)
    fault = not_lines_fault(first[1], file, alone=second is None)
    if fault is not None:
        yield 0, replace(fault, fix=f"{fault.fix}, then {path_setting(new_name(file.path, '.jsonl'), file.split)}")
        return
    for number, line, fault in chain([first], [] if second is None else [second], numbered):
        yield number, fault or parse_object(line, file.name)


def not_lines_fault(first: str, file: DataFile, *, alone: bool) -> Fault | None:
    """Return a fault if the file is a single JSON value, or values over several lines, instead of an object per line.

    `first` is the first line, `alone` whether it is the only one.
    """
    if not first.lstrip("\ufeff \t").startswith(("{", "[")):
        return None
    try:
        value = orjson.loads(first)
    except orjson.JSONDecodeError:
        if alone:
            return None
        with open_data(file) as stream:
            return multiline_json_fault(stream.read(MAX_PARSED).decode(file.encoding, "replace"), file.path)
    if not alone or not value:
        return None
    if isinstance(value, list):
        return single_value_fault(value, file.path) if isinstance(value[0], dict) else None
    configured = [name for name in asdict(file.columns).values() if isinstance(name, str)]
    is_row = any(name in value for name in (*PROMPT_NAMES, *COMPLETION_NAMES, *CHAT_NAMES, *configured))
    return single_value_fault(value, file.path) if record_lists(value) and not is_row else None


def parse_object(line: str, file: str) -> dict[str, Any] | Fault:
    """Parse a line as a JSON object with distinct keys; Python's `NaN` for a missing value is read as null."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        value = None
        if "NaN" in line:
            with suppress(ValueError, KeyError, RecursionError):  # raised if it is not JSON either way
                value = json.loads(line, parse_constant={"NaN": None}.__getitem__)
        if value is None:
            message = f"not JSON: {error.msg} (character {error.colno})"
            return Fault("bad-json", message, "write one JSON object per line", file)
    if isinstance(value, dict):
        return (_repeated_key_fault(line, file) if _may_repeat_key(line, value) else None) or value
    message = f"the line is JSON, but {TYPES.get(type(value), 'a number')} where an object is needed"
    return Fault("not-an-object", message, 'write {"prompt": ..., "completion": ...} on each line', file)


def _may_repeat_key(line: str, value: dict[str, Any]) -> bool:
    """Return whether the line may contain more keys than `value`, at any depth; False is certain.

    A quote before a colon ends a key, unless it is escaped or begins a text; an escaped backslash makes this ambiguous.
    """
    if '\\\\"' in line:
        return True
    ends = line.count('":') - line.count('\\":')
    if " :" in line or "\t:" in line or "\r:" in line:
        ends = len(KEY_END.findall(line))
    keys = 0
    pending: list[Any] = [value]
    while pending:  # __class__ is faster than isinstance, and this runs for every row
        container = pending.pop()
        if container.__class__ is dict:
            keys += len(container)
            container = container.values()
        pending += [item for item in container if item.__class__ is dict or item.__class__ is list]
    return ends != keys


def _repeated_key_fault(line: str, file: str) -> Fault | None:
    """Return a fault if an object has the same key twice: a parser would silently keep the last value."""
    repeated: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> None:
        counts = Counter(name for name, _ in pairs)
        repeated.extend(name for name, count in counts.items() if count > 1)

    try:
        json.loads(line, object_pairs_hook=collect, parse_int=len, parse_float=len)  # numbers are not needed
    except RecursionError:
        return Fault("bad-json", "the line is nested too deeply to check for repeated keys", "nest less deeply", file)
    if not repeated:
        return None
    return Fault("repeated-key", f"duplicate key {repeated[0]!r}", "keep one of them", file, column=repeated[0])
