"""Reasoning of an assistant's turn: a field of the turn, or `<think>…</think>` at the start of its content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kamerton.errors import Fault

REASONING = ("reasoning_content", "reasoning", "thinking")
SWITCHES = ("on", "off", "true", "false", "yes", "no", "0", "1")  # values that say only if there is reasoning
OPEN, CLOSE = "<think>", "</think>"


def split_reasoning(text: str, place: str) -> tuple[str, str, list[Fault]]:
    """Return the reasoning at the start of an assistant's content ("" without), the rest, and the faults.

    A template may write the opening tag at the end of the prompt, so that an answer may begin without it.
    """
    if CLOSE not in text and OPEN not in text:
        return "", text, []
    opened = text.lstrip().startswith(OPEN)
    if not opened and (OPEN in text or text.count(CLOSE) != 1):
        return "", text, []  # tags elsewhere are part of the answer
    before, close, rest = text.partition(CLOSE)
    if not close:
        message = f"the content begins with {OPEN} and has no {CLOSE}"
        return "", text, [Fault("bad-messages", message, f"write {CLOSE} behind the reasoning", column=place)]
    reasoning = before.lstrip().removeprefix(OPEN) if opened else before
    return reasoning.strip(), rest.lstrip(), []


def reasoning_field(item: Mapping[str, Any]) -> tuple[str, object]:
    """Return the name of a turn's field for reasoning, and its value; ("", None) without any."""
    fields = [(name, item[name]) for name in REASONING if item.get(name) not in (None, "", [])]
    return fields[0] if fields else ("", None)


def reasoning_text(value: object) -> str | None:
    """Return reasoning as text: a text, texts in a list, or parts with a text, as several providers write it."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        keys = ("text", "thinking", "reasoning", "value", "summary", "content", "reasoningText")
        return next((text for key in keys if (text := reasoning_text(value.get(key)))), None)
    if isinstance(value, list):
        texts = [reasoning_text(item) for item in value]
        return None if None in texts else "\n\n".join(text for text in texts if text)
    return None
