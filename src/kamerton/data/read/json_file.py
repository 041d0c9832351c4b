"""A file that is one JSON value, or several, over many lines: what is in it, and how to write its records on lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kamerton.data.read import commands
from kamerton.errors import Fault

LARGEST = 16 * 2**20  # characters that are parsed to tell what is in a file


def json_file(text: str, path: Path) -> Fault | None:
    """Return the fault of a file that begins with this text (all of it, if it is not long); None: it is no such file."""
    text = text.lstrip("\ufeff \t\r\n")
    try:
        value, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        first = text.partition("\n")[0].rstrip()
        if len(text) < LARGEST or not first.endswith(("{", "[", ",")):
            return None
        value, end = ([] if first.startswith("[") else {}), len(text)
    rest = text[end:].lstrip()
    if rest:
        if not isinstance(value, dict) or not rest.startswith("{") or "\n" not in text[:end]:
            return None
        message = "the file is several JSON objects over many lines, not one on each line"
        return Fault("unreadable-file", message, commands.joined_objects(path), str(path))
    return whole_value(value, path)


def whole_value(value: Any, path: Path) -> Fault:
    """Return the fault of a file that is this one value."""
    if isinstance(value, list):
        holds = f", which holds {len(value):,} records" if value else ""
        message = f"the file is one JSON array{holds}, not one object on each line"
        return Fault("unreadable-file", message, commands.json_lines(path), str(path))
    lists = records(value)
    if not lists:
        keys = f" with the keys {', '.join(list(value)[:8])}" if value else ""
        message = f"the file is one JSON object{keys} over many lines, not one on each line"
        return Fault("unreadable-file", message, commands.joined_objects(path), str(path))
    names = " and ".join(f"{name!r}, which holds {count:,} records" for name, count in list(lists.items())[:5])
    message = f"the file is one JSON object with the key {names}; not one object on each line"
    longest = max(lists, key=lambda name: lists[name])
    return Fault("unreadable-file", message, commands.json_lines(path, longest), str(path))


def records(value: dict[str, Any]) -> dict[str, int]:
    """Return the keys that hold arrays of objects, and how many objects."""
    return {
        name: len(items)
        for name, items in value.items()
        if isinstance(items, list) and items and all(isinstance(item, dict) for item in items)
    }
