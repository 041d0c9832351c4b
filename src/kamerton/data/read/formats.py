"""Formats that are told apart by what their columns hold: preferences and answers in a column beside the turns.

They hold an answer to learn in another place than usual; one fault a file names the format and the setting that reads
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kamerton.data.options import Columns
from kamerton.data.read.unused import is_empty, quoted
from kamerton.errors import Fault

CHOSEN = ("chosen", "chosen_response", "preferred_output")
REJECTED = ("rejected", "rejected_response", "non_preferred_output")
ANSWERS = ("reference_answer", "response", "answer", "completion", "output", "target")
PROMPTS = ("prompt", "question", "query", "instruction", "input", "messages")


def known_format(record: Mapping[str, Any], columns: Columns) -> Fault | None:
    """Return what a row is whose columns nobody named, and the setting that reads it; None if there is nothing to say."""
    if any((columns.prompt, columns.completion, columns.label, columns.messages, columns.text)):
        return None
    return _preference(record) or _answer_beside_turns(record)


def _preference(record: Mapping[str, Any]) -> Fault | None:
    chosen = next((name for name in CHOSEN if not is_empty(record.get(name))), None)
    if chosen is None or all(is_empty(record.get(name)) for name in REJECTED):
        return None
    message = "the rows are preferences (a better and a worse answer), which is no objective here"
    if chosen == "preferred_output":
        message = "the rows are preferences in OpenAI's format, which is no objective here"
    setting = _learn(record, chosen)
    return Fault("unused-field", message, f"to train on the better answers alone, add {setting}", column=chosen)


def _learn(record: Mapping[str, Any], chosen: str) -> str:
    """Return the setting that reads the column of better answers: whole chats, answers to a prompt, or texts."""
    value = record[chosen]
    if isinstance(value, list) and any(_role(turn) == "user" for turn in value):
        return f"data.columns.messages={chosen}"
    prompt = next((name for name in PROMPTS if not is_empty(record.get(name))), None)
    if prompt is None:
        return f"data.columns.text={chosen}"
    return f"data.columns.prompt={quoted(prompt)} data.columns.completion={chosen}"


def _answer_beside_turns(record: Mapping[str, Any]) -> Fault | None:
    turns = record.get("messages")
    if not isinstance(turns, list) or not turns or any(_role(turn) == "assistant" for turn in turns):
        return None
    answer = next((name for name in ANSWERS if not is_empty(record.get(name))), None)
    if answer is None:
        return None
    message = f"the turns end before the assistant's, and {answer} holds what it must say"
    if answer == "reference_answer":
        message += " (OpenAI's format for reinforcement fine-tuning, which is no objective here)"
    fix = f"to train on it, add data.columns.prompt=messages data.columns.completion={answer}"
    if not isinstance(record[answer], str):
        fix = f"write {answer} as a text, then add data.columns.prompt=messages data.columns.completion={answer}"
    return Fault("unused-field", message, fix, column=answer)


def _role(turn: object) -> object:
    return turn.get("role", turn.get("from")) if isinstance(turn, Mapping) else None
