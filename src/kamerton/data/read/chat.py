"""Chat turns: OpenAI's messages and ShareGPT's conversations as turns before a completion, and the completion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kamerton.data.read.text import Action, check_text
from kamerton.errors import Fault

SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant"}
ROLES = ("system", "developer", "user", "assistant", "tool")
TOOL_ROLES = ("function_call", "tool_call", "function", "observation", "tool_response", "function_response")
CONTENT = ("content", "value")
TEXT_PARTS = ("text", "input_text", "output_text")
WEIGHTS = ("weight", "loss_weight", "train")
TURN_KEYS = ("role", "from", *CONTENT, *WEIGHTS)  # the supported keys of a turn

Turn = tuple[str, str, float]  # role, content, weight


def chat_fields(value: object, column: str, action: Action) -> tuple[tuple[str, str] | None, list[Fault]]:
    """Return the turns before the completion as JSON with the completion (None if unusable), and the faults."""
    if not isinstance(value, list) or not value:
        fix = 'write [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]'
        return None, [Fault("bad-messages", f"{column} is not a list of chat turns", fix, column=column)]
    turns: list[Turn] = []
    faults: list[Fault] = []
    for i, item in enumerate(value):
        turn, turn_faults = _parse_turn(item, f"{column}[{i}]", action)
        turns += [] if turn is None else [turn]
        faults += turn_faults
    if len(turns) < len(value):
        return None, faults
    last = max((i for i, turn in enumerate(turns) if turn[0] == "assistant" and turn[2] > 0), default=None)
    if last is None:
        fix = "add an assistant's turn with a weight above 0"
        return None, [*faults, Fault("bad-messages", "there is no turn to train on", fix, column=column)]
    if last == 0:
        fix = "put the user's turn before it, or give plain text as `text`"
        return None, [*faults, Fault("bad-messages", "there is no turn before the assistant's", fix, column=column)]
    if last < len(turns) - 1:
        message = f"turns after {column}[{last}] are not trained on"
        fix = "remove them, or set data.policy.trailing-turns=fix"
        faults.append(Fault("trailing-turns", message, fix, column=column))
    before = json.dumps([list(turn) for turn in turns[:last]], ensure_ascii=False, separators=(",", ":"))
    return (before, turns[last][1]), faults


def _parse_turn(item: object, column: str, action: Action) -> tuple[Turn | None, list[Fault]]:
    if not isinstance(item, Mapping):
        fix = 'write {"role": ..., "content": ...}'
        return None, [Fault("bad-messages", "the turn is not an object", fix, column=column)]
    role = _role(item)
    role = SHAREGPT_ROLES.get(role, role) if isinstance(role, str) else role
    faults = []
    if role not in ROLES:
        message = f"the turn's role is {role!r}"
        faults.append(Fault("bad-messages", message, f"use {', '.join(ROLES)}", column=f"{column}.role"))
    weight, weight_faults = _parse_weight(item, column)
    faults += weight_faults
    content, content_faults = check_text(_content(item), f"{column}.content", action)
    if faults or content is None:
        return None, faults + content_faults
    return (str(role), content, weight), content_faults


def _role(item: Mapping[str, Any]) -> object:
    return item.get("role", item.get("from"))


def tool_role(item: Mapping[str, Any]) -> str | None:
    """Return the role of a turn that is a tool call or its result; None for other turns."""
    role = _role(item)
    return role if isinstance(role, str) and role in TOOL_ROLES else None


def _parse_weight(item: Mapping[str, Any], column: str) -> tuple[float, list[Fault]]:
    """Return OpenAI's `weight`, LLaMA-Factory's `loss_weight` or Axolotl's `train` as 0 or 1 (default: 1)."""
    given = {key: item[key] for key in WEIGHTS if item.get(key) is not None}
    faults = []
    for key, value in given.items():
        if value not in (0, 1) or isinstance(value, bool) != (key == "train"):
            fix = "write true or false" if key == "train" else "write 0 (only read) or 1 (trained on)"
            faults.append(Fault("bad-messages", f"{key} is {value!r}", fix, column=f"{column}.{key}"))
    if not faults and len(set(map(float, given.values()))) > 1:
        message = f"{' and '.join(given)} contradict each other"
        faults.append(Fault("bad-messages", message, "keep one of them", column=f"{column}.{next(iter(given))}"))
    return (1.0, faults) if faults or not given else (float(next(iter(given.values()))), [])


def _content(item: Mapping[str, Any]) -> object:
    """Return a turn's text; for a list of parts, the text of its text parts."""
    content = next((item[key] for key in CONTENT if item.get(key) is not None), None)
    if not isinstance(content, list) or not content:
        return content
    texts = [text_of_part(part) for part in content]
    if any(text is None and not part_type(part) for text, part in zip(texts, content, strict=True)):
        return content
    return "".join(text for text in texts if text is not None)


def text_of_part(part: object) -> str | None:
    """Return the text of a content part in the format of OpenAI, Anthropic, Bedrock or LLaMA-Factory, else None."""
    if not isinstance(part, Mapping) or part.get("type", "text") not in TEXT_PARTS:
        return None
    text = part.get("text", part.get("value"))
    return text if isinstance(text, str) else None


def part_type(part: object) -> str:
    """Return the type of a content part that is not text, else ""."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    return kind if isinstance(kind, str) and kind not in TEXT_PARTS else ""
