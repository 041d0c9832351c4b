"""Lists and objects that are written as texts: as JSON, or as Python prints them. Tables have no other way."""

from __future__ import annotations

import json
from typing import Any

from kamerton.data.read.conversations.call_forms import python_value
from kamerton.data.read.conversations.calls import parse_json


def parse_cell(text: str) -> list[Any] | dict[str, Any] | None:
    """Return the list or object in a text, written as JSON or as Python prints it; None for other texts."""
    try:
        value = parse_json(text)
    except json.JSONDecodeError:
        value = python_value(text)
    except ValueError:  # JSON with a key twice or NaN
        return None
    return value if isinstance(value, list | dict) else None


def unpacked(value: object) -> object:
    """Return the list or object that a text is; other texts and values unchanged."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    parsed = parse_cell(value)
    return value if parsed is None else parsed


def is_printed(value: object) -> bool:
    """Return whether a text is a list or an object as Python prints it, which is not JSON."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{") or parse_cell(value) is None:
        return False
    try:
        json.loads(value)
    except ValueError:
        return True
    return False
