"""The form in which the row store keeps an example: its columns, ids and keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from kamerton.data.example import Alternative, DataExample, Message, ToolCall

CALLS = '"tool_calls":['  # in extras with calls, where quotes in texts are escaped
SCORE = '"score":'  # in extras of preference data


def hash64(data: bytes) -> int:
    """Return the first 8 bytes of the BLAKE2b hash as an integer."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def row_id(prompt: str | None, chat: bool, completion: str, extras: str | None = None) -> int:
    """Return `DataExample.id` as a number; without building the example if it has no extras."""
    if extras is not None:
        return int(to_example(prompt, chat, completion, None, extras).id, 16)
    if prompt is None:
        before = ""
    elif chat:
        before = json.dumps(json.loads(prompt))[1:-1] + ", "
    else:
        before = f'["user", {quoted(prompt)}, 1.0], '
    return hash64(f'[{before}["assistant", {quoted(completion)}, 1.0]]'.encode())


def stored_prompt(prompt: str | tuple[Message, ...]) -> str | None:
    """Return a prompt as the store keeps it: a text, the JSON of its turns, or None for no prompt at all."""
    if isinstance(prompt, str):
        return prompt
    return turns_json([turn.to_list() for turn in prompt]) if prompt else None


def turns_json(turns: list[list[Any]]) -> str:
    """Return the turns of `Message.to_list` as the store keeps them."""
    return json.dumps(turns, ensure_ascii=False, separators=(",", ":"))


def stored_extras(
    reasoning: str = "",
    tool_calls: Sequence[ToolCall] = (),
    tools: str = "",
    weight: float = 1.0,
    score: float | None = None,
    alternatives: Sequence[Alternative] = (),
) -> str | None:
    """Return the further fields of an example as the store keeps them: JSON of those that are set, or None."""
    if not reasoning and not tool_calls and not tools and weight == 1 and score is None:
        return None
    calls = [[call.name, call.arguments, call.id] for call in tool_calls]
    extras: dict[str, Any] = {"reasoning": reasoning, "tool_calls": calls, "tools": tools}
    extras = {name: value for name, value in extras.items() if value}
    if weight != 1:
        extras["weight"] = weight
    if score is not None:
        extras["score"] = score
        extras["alternatives"] = [alternative.to_list() for alternative in alternatives]
    return json.dumps(extras, ensure_ascii=False, separators=(",", ":")) if extras else None


def completion_key(completion: str, extras: str | None) -> int:
    """Return a hash of what is answered: the completion and its calls, score and alternatives."""
    compared = extras is not None and (CALLS in extras or SCORE in extras)
    return hash64((completion + (extras or "") * compared).encode())


NO_COMPLETION_KEY = hash64(b"")  # of a prompt alone


def prompt_key(text: str) -> int:
    """Return a hash of the prompt without case and surrounding spaces."""
    return hash64(text.strip().casefold().encode())


def to_example(
    prompt: str | None, chat: bool, completion: str, metadata: str | None, extras: str | None = None
) -> DataExample:
    """Return a stored row as an example."""
    turns: str | tuple[Message, ...]
    if prompt is None:
        turns = ()
    elif chat:
        turns = tuple(Message.from_list(values) for values in json.loads(prompt))
    else:
        turns = prompt
    example = DataExample(turns, completion, json.loads(metadata) if metadata else {})
    if extras is None:
        return example
    values = json.loads(extras)
    if "tool_calls" in values:
        values["tool_calls"] = tuple(ToolCall(*call) for call in values["tool_calls"])
    if "alternatives" in values:
        values["alternatives"] = tuple(Alternative.from_list(other) for other in values["alternatives"])
    return replace(example, **values)
