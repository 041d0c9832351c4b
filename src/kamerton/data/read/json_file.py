"""Faults of files with JSON values over several lines, with commands that convert them to JSON Lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kamerton.data.read import commands
from kamerton.errors import Fault

MAX_PARSED = 16 * 2**20  # characters that are parsed to detect the structure of a file


def multiline_json_fault(text: str, path: Path) -> Fault | None:
    """Return the fault of a file that begins with `text` (its first `MAX_PARSED` characters); None for other files."""
    text = text.lstrip("\ufeff \t\r\n")
    try:
        value, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        first = text.partition("\n")[0].rstrip()
        if len(text) < MAX_PARSED or not first.endswith(("{", "[", ",")):
            return None
        value, end = ([] if first.startswith("[") else {}), len(text)
    rest = text[end:].lstrip()
    if rest:
        if not isinstance(value, dict) or not rest.startswith("{") or "\n" not in text[:end]:
            return None
        message = "the file is several JSON objects over many lines, not one on each line"
        return Fault("unreadable-file", message, commands.joined_objects(path), str(path))
    return single_value_fault(value, path)


def single_value_fault(value: Any, path: Path) -> Fault:
    """Return the fault of a file that consists of this value."""
    if isinstance(value, list):
        size = f" of {len(value):,} records" if value else ""
        message = f"the file is one JSON array{size}, not one object on each line"
        return Fault("unreadable-file", message, commands.json_lines(path), str(path))
    lists = record_lists(value)
    if not lists:
        keys = f" with the keys {', '.join(list(value)[:8])}" if value else ""
        message = f"the file is one JSON object{keys} over many lines, not one on each line"
        return Fault("unreadable-file", message, commands.joined_objects(path), str(path))
    names = " and ".join(f"{name!r} with {count:,} records" for name, count in list(lists.items())[:5])
    message = f"the file is one JSON object with the key {names}, not one object on each line"
    longest = max(lists, key=lambda name: lists[name])
    return Fault("unreadable-file", message, commands.json_lines(path, longest), str(path))


def record_lists(value: dict[str, Any]) -> dict[str, int]:
    """Return the keys whose values are arrays of objects, with the number of objects."""
    return {
        name: len(items)
        for name, items in value.items()
        if isinstance(items, list) and items and all(isinstance(item, dict) for item in items)
    }
