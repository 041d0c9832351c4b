"""Rows of JSON Lines files: one object on each line, without repeated keys."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from kamerton.data.read.files.lines import Line
from kamerton.data.read.json.shape import is_turns
from kamerton.errors import Fault
from kamerton.shell import new_name

Row = tuple[int, dict[str, Any] | Fault]
KEY_END = re.compile(r'(?<!\\)"[ \t\r\n]*:')
FIXES = {  # by a part of orjson's message
    "surrogate": "write the whole character, such as \\ud83d\\ude00, or leave its half out",
    "infinity": "write null for a missing value, a larger number as a text",
    "no digit after sign": "write null for a missing value",  # -Infinity
    "depth limit": "nest less deeply",
    "unexpected content": "write one JSON object per line, and no comma behind it",
    "byte order mark": "remove the byte-order mark in front of the line, as joined files have it",
}
_WALKED = {dict, list, float}
TYPES = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}


def line_rows(lines: Iterator[Line], file: str, names: list[str] | None = None) -> Iterator[Row]:
    """Yield `(line number, object or fault)` for each nonblank line; `names` are the fields of lists."""
    for number, (line, fault) in enumerate(lines, 1):
        if fault or (line and not line.isspace()):
            yield number, fault or parse_object(line, file, names)


def parse_object(line: str, file: str, names: list[str] | None = None) -> dict[str, Any] | Fault:
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
            fix = next((fix for reason, fix in FIXES.items() if reason in error.msg), "write one JSON object per line")
            return Fault("bad-json", message, fix, file)
    if value.__class__ is not dict and value.__class__ is not list:
        return as_record(value, file, names)
    keys, has_large = _keys(value)
    if _may_repeat_key(line, keys) and (fault := _repeated_key_fault(line, file)):
        return fault
    if has_large:
        try:
            value = json.loads(line, parse_constant={"NaN": None}.__getitem__)
        except ValueError:
            message = f"an integer has more than {sys.get_int_max_str_digits():,} digits"
            return Fault("bad-json", message, "write it as a text, in quotes", file)
    return value if value.__class__ is dict else as_record(value, file, names)


def as_record(value: Any, file: str, names: list[str] | None = None) -> dict[str, Any] | Fault:
    """Return a value as the fields of a record: an object, the turns of a conversation, or a list of fields `names`."""
    if isinstance(value, dict):
        return value
    if is_turns(value):
        return {"messages": value}
    if names and isinstance(value, list):
        if len(value) == len(names):
            return dict(zip(names, value, strict=True))
        message = f"the record has {len(value)} fields, and data.header {len(names)}"
        return Fault("wrong-field-count", message, "correct the record, or data.header", file)
    if fix := _spacy_fix(value, file):
        return Fault("not-an-object", "the record is an array of a text and its annotations (spaCy)", fix, file)
    message = f"the record is {TYPES.get(type(value), 'a number')}, not an object with named fields"
    return Fault("not-an-object", message, 'write {"prompt": ..., "completion": ...} for each record', file)


def _spacy_fix(value: Any, file: str) -> str | None:
    """Return the command that converts the training data of earlier versions of spaCy; None for other values."""
    is_pair = isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], dict)
    if not is_pair or not value[1].keys() & {"cats", "entities"}:
        return None
    completion = ".[1].cats | to_entries | max_by(.value).key"
    if "cats" not in value[1]:
        completion = r'[.[0] as $text | .[1].entities[] | "\(.[2]): \($text[.[0]:.[1]])"] | join("\n")'
    program = f'if (.[0] | type) == "array" then .[] else . end | {{prompt: .[0], completion: ({completion})}}'
    new = new_name(Path(file), ".jsonl")
    return f"jq -c {shlex.quote(program)} {shlex.quote(file)} > {new}, then data.path={new}"


def repeated_key_fault(text: str, value: Any, file: str) -> Fault | None:
    """Return a fault if an object in `value`, which was read from `text`, has the same key twice."""
    if not isinstance(value, dict | list):
        return None
    return _repeated_key_fault(text, file) if _may_repeat_key(text, _keys(value)[0]) else None


def _may_repeat_key(line: str, keys: int) -> bool:
    """Return whether the line may contain more than `keys` keys, at any depth; False is certain.

    A quote before a colon ends a key, unless it is escaped or begins a text; an escaped backslash makes this ambiguous.
    """
    if '\\\\"' in line:
        return True
    ends = line.count('":') - line.count('\\":')
    if " :" in line or "\t:" in line or "\r:" in line:
        ends = len(KEY_END.findall(line))
    return ends != keys


def _keys(value: Any) -> tuple[int, bool]:
    """Return the number of keys in a list or object, at any depth, and whether any number is a float of 2^63 or more.

    orjson reads an integer of more than 64 bits as such a float.
    """
    keys, has_large = 0, False
    pending: list[Any] = [value]
    while pending:  # __class__ is faster than isinstance, and this runs for every row
        item = pending.pop()
        if item.__class__ is float:
            has_large |= abs(item) >= 2**63
            continue
        if item.__class__ is dict:
            keys += len(item)
            item = item.values()
        pending += [inner for inner in item if inner.__class__ in _WALKED]
    return keys, has_large


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
