"""Chat turns: OpenAI's messages and ShareGPT's conversations become turns before a completion, and the completion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kamerton.data.text import Action, checked
from kamerton.errors import Fault

SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant"}
ROLES = ("system", "developer", "user", "assistant", "tool")

Turn = tuple[str, str, float]  # role, content, weight


def chat_fields(value: object, column: str, action: Action) -> tuple[tuple[str, str] | None, list[Fault]]:
    """The turns before the completion as JSON, and the completion (None if unusable); and every fault of the chat."""
    if not isinstance(value, list) or not value:
        fix = 'write [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]'
        return None, [Fault("bad-messages", f"{column} is not a list of chat turns", fix, column=column)]
    turns: list[Turn | None] = []
    faults: list[Fault] = []
    for i, item in enumerate(value):
        turn, found = _turn(item, f"{column}[{i}]", action)
        turns.append(turn)
        faults += found
    good = [turn for turn in turns if turn is not None]
    if len(good) < len(turns):
        return None, faults
    last = max((i for i, turn in enumerate(good) if turn[0] == "assistant" and turn[2] > 0), default=None)
    if last is None:
        fix = "add what the assistant must say, with a weight above 0"
        return None, [*faults, Fault("bad-messages", "no turn is to be trained on", fix, column=column)]
    if last == 0:
        fix = "put what it answers before it, or give plain text as `text`"
        return None, [*faults, Fault("bad-messages", "no turn stands before the assistant's", fix, column=column)]
    if last < len(good) - 1:
        message = f"turns after {column}[{last}] are there, but nothing learns from them"
        fix = "remove them, or set data.policy.trailing-turns=fix"
        faults.append(Fault("trailing-turns", message, fix, column=column))
    before = json.dumps([list(turn) for turn in good[:last]], ensure_ascii=False, separators=(",", ":"))
    return (before, good[last][1]), faults


def _turn(item: object, column: str, action: Action) -> tuple[Turn | None, list[Fault]]:
    if not isinstance(item, Mapping):
        fix = 'write {"role": ..., "content": ...}'
        return None, [Fault("bad-messages", "the turn is not an object", fix, column=column)]
    role = item.get("role", item.get("from"))
    role = SHAREGPT_ROLES.get(role, role) if isinstance(role, str) else role
    faults = []
    if role not in ROLES:
        message = f"the turn's role is {role!r}"
        faults.append(Fault("bad-messages", message, f"use {', '.join(ROLES)}", column=f"{column}.role"))
    weight = item.get("weight")
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        fix = "write 0 (only read) or 1 (trained on)"
        faults.append(Fault("bad-messages", f"weight is {weight!r}", fix, column=f"{column}.weight"))
    for key in ("tool_calls", "function_call"):
        if item.get(key):
            fix = "write what the model must say into content, or drop the row"
            faults.append(
                Fault("bad-messages", "a turn that calls tools is not supported", fix, column=f"{column}.{key}")
            )
    content, found = checked(_content(item), f"{column}.content", action)
    if faults or content is None:
        return None, faults + found
    return (str(role), content, 1.0 if weight is None else float(weight)), found


def _content(item: Mapping[str, Any]) -> object:
    """A turn's text; OpenAI's list of text parts is joined."""
    content = item.get("content", item.get("value"))
    if isinstance(content, list) and content and all(_is_text_part(part) for part in content):
        return "".join(part["text"] for part in content)
    return content


def _is_text_part(part: object) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)
