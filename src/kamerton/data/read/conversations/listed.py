"""Conversations that are not lists of turns: texts in turn (LIMA, UltraChat), pairs (Capybara), one text (HH-RLHF).

Axolotl's `segments` are parts of a text, of which those with `label: true` are trained on: if a setting names them as
turns, these are the assistant's, and the others the user's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from kamerton.data.read.conversations.roles import is_turn

PAIRS = (
    *(("input", "output"), ("human", "assistant"), ("user", "assistant"), ("question", "answer")),
    *(("query", "response"), ("prompt", "response"), ("instruction", "output"), ("instruction", "response")),
)
SPOKEN = re.compile(r"\n\n(Human|Assistant): ?")  # before each turn in a text of Anthropic's data

SEGMENTS = "segments"  # name of the column

Item = tuple[str, Any]  # the place of a turn, and the turn


def turn_items(value: list[Any] | str, column: str) -> Iterable[Item]:
    """Return the turns of a conversation in any form, with their places; other values are returned as they are."""
    if isinstance(value, str):
        pieces = SPOKEN.split(value)
        spoken = zip(pieces[1::2], pieces[2::2], strict=True)
        return [(column, {"role": name.lower(), "content": text.strip()}) for name, text in spoken]
    if are_texts(value):
        roles = ("user", "assistant")
        return [(f"{column}[{i}]", {"role": roles[i % 2], "content": text}) for i, text in enumerate(value)]
    if column == SEGMENTS and are_segments(value):
        return _joined_segments(value, column)
    names = pair_names(value)
    if names is None:
        return [(f"{column}[{i}]", item) for i, item in enumerate(value)]
    items: list[Item] = []
    for i, pair in enumerate(value):
        parts = (("system", "system"), ("user", names[0]), ("assistant", names[1]))
        fields = [(role, name) for role, name in parts if role != "system" or pair.get(name)]
        items += [(f"{column}[{i}].{name}", {"role": role, "content": pair.get(name)}) for role, name in fields]
    return items


def _joined_segments(value: list[Any], column: str) -> list[Item]:
    """Return the turns of segments; those with one label in a row are one turn."""
    items: list[Item] = []
    for i, segment in enumerate(value):
        role = "assistant" if segment["label"] else "user"
        if items and items[-1][1]["role"] == role:
            items[-1][1]["content"] += segment["text"]
        else:
            items.append((f"{column}[{i}]", {"role": role, "content": segment["text"]}))
    return items


def are_segments(value: object) -> bool:
    """Return whether a value is a list of texts, each with whether it is trained on."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(part, Mapping) and type(part.get("label")) is bool for part in value)
        and all(isinstance(part.get("text"), str) for part in value)
    )


def is_conversation(value: object) -> bool:
    """Return whether a value is certainly a conversation: turns, pairs, or several texts in turn."""
    return (
        isinstance(value, list)
        and bool(value)
        and (all(map(is_turn, value)) or pair_names(value) is not None or (len(value) > 1 and are_texts(value)))
    )


def is_spoken(value: object) -> bool:
    """Return whether a value is a text of turns that begin with `Human:` and `Assistant:`."""
    return isinstance(value, str) and value.startswith("\n\nHuman:") and "\n\nAssistant:" in value


def are_texts(value: list[Any]) -> bool:
    """Return whether a list holds texts alone."""
    return bool(value) and isinstance(value[0], str) and all(isinstance(item, str) for item in value)


def pair_names(value: list[Any]) -> tuple[str, str] | None:
    """Return the keys of question and answer in a list of pairs; None for other lists."""
    first = value[0] if value else None
    if not isinstance(first, Mapping) or "role" in first or "from" in first:
        return None  # nearly all conversations
    names = next((pair for pair in PAIRS if set(pair) <= set(first)), None)
    if names is None or not all(isinstance(item, Mapping) and set(item) <= {"system", *names} for item in value):
        return None
    return names
