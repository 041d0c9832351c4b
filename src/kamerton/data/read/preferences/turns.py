"""Turns in the values of a preference row: as JSON in a cell of a table, in one text, or as two lists of texts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kamerton.data.read.conversations.listed import turn_items
from kamerton.data.read.conversations.roles import is_turn, role_of
from kamerton.data.read.nested import parse_cell

A_TURN = re.compile(r"""\s*\[?\s*\{\s*["'](role|from)["']\s*:""")  # the beginning of turns as JSON


def parsed_turns(value: Any) -> Any:
    """Return the turns that a cell of a table has as a text; other values unchanged."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    turns = parse_cell(value)
    items = turns if isinstance(turns, list) else [turns]
    return turns if items and all(map(is_turn, items)) else value


def are_broken(value: Any) -> bool:
    """Return whether a text begins like turns, and cannot be parsed."""
    return isinstance(value, str) and A_TURN.match(value) is not None and parse_cell(value) is None


def spoken_turns(text: str) -> list[Any]:
    """Return the turns of a text in which `Human:` and `Assistant:` speak; without a last turn that is empty."""
    turns = [turn for _, turn in turn_items(text, "")]
    if turns and turns[-1] == {"role": "assistant", "content": ""}:
        turns.pop()
    return turns


def texts_in_turn(prompt: Any, completion: Any) -> list[Any]:
    """Return the turns of a dialogue whose questions and answers are two lists of texts (LMSYS); [] for others."""
    asked, answered = _texts(prompt), _texts(completion)
    if len(asked) != len(answered):
        return []
    return [
        {"role": role, "content": text}
        for texts in zip(asked, answered, strict=True)
        for role, text in zip(("user", "assistant"), texts, strict=True)
    ]


def _texts(value: Any) -> list[Any]:
    """Return the texts of a list, which a table has as JSON; [] for other values."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        value = parse_cell(value)
    return value if isinstance(value, list) and all(isinstance(text, str | None) for text in value) else []


def role_in(turn: object) -> str | None:
    """Return the role of a turn; None for other values."""
    return role_of(turn)[0] if isinstance(turn, Mapping) else None
