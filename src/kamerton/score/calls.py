"""Calls, reasoning and content of a generated answer, in the forms that families of models write.

Calls: `<tool_call>` with JSON (Hermes, Qwen), `<function=…>` (Qwen Coder) or `<arg_key>` (GLM), `[TOOL_CALLS]`
(Mistral), bare JSON or `<|python_tag|>` (Llama 3), and the channels of gpt-oss. Reasoning: `<think>`, `[THINK]`, and
the channel `analysis`.
Text that is meant as a call but is none (broken JSON, no name, arguments that are not an object) is an invalid call.

In a scores table, calls are a JSON list of `{"name": …, "arguments": {…}}`; an invalid call is `{"name": …, "invalid":
text}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kamerton.data.example import ToolCall
from kamerton.data.read.conversations.call_forms import tagged_calls
from kamerton.data.read.conversations.call_text import BARE, ENDS, MISTRAL, MISTRAL_NAMED, PYTHON
from kamerton.data.read.conversations.calls import parse_json, read_call, write_json
from kamerton.data.read.conversations.reasoning import CLOSE, OPEN, split_reasoning

MARKED_TOKENS = frozenset(  # tokens in which answers write calls and reasoning; many tokenizers make them special
    [
        *("<tool_call>", "</tool_call>", MISTRAL, "[CALL_ID]", "[ARGS]", PYTHON, OPEN, CLOSE, "[THINK]", "[/THINK]"),
        *("<|channel|>", "<|message|>", "<|constrain|>", "<|start|>", "<|end|>", "<|call|>", "<|return|>"),
    ]
)
MARKS = ("<tool_call>", MISTRAL, PYTHON, "<|channel|>", OPEN, CLOSE, "[THINK]")
_BLOCK = re.compile(r"<tool_call>(.*?)(?:</tool_call>|(?=<tool_call>)|\Z)", re.DOTALL)
_CHANNEL = re.compile(
    r"([^<>]*)<\|channel\|>([^<]*)(?:<\|constrain\|>[^<]*)?<\|message\|>(.*?)"
    r"(?=<\|(?:end|call|return|start)\|>|\Z)",
    re.DOTALL,
)
_RECIPIENT = re.compile(r"to=(?:functions\.)?(\S+)")
_NAME = re.compile(r'"name"\s*:\s*"([^"\\]+)"')
_MEANT = re.compile(r'\s*\[?\s*\{\s*"(?:name|type|parameters|arguments)"\s*:')  # JSON that begins like a call


@dataclass(frozen=True, slots=True)
class Call:
    """A call; `arguments` is None if it is invalid, and `invalid` is then its text."""

    name: str
    arguments: Mapping[str, Any] | None
    invalid: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """The parts of an answer; `content` is what is left without reasoning and calls."""

    reasoning: str
    content: str
    calls: tuple[Call, ...] = ()


def parse_answer(text: str, tools: str = "", *, thinking: bool = False, calls: bool = True) -> Answer:
    """Return the parts of a generated text, whose special tokens are decoded.

    `tools` is JSON as in `DataExample`: only with functions is JSON without a tag a call. `thinking`: the prompt ends
    with an open `<think>`. With `calls=False`, calls are part of the content.
    """
    if "<|channel|>" in text:
        return _from_channels(text, tools, calls=calls)
    text = text.replace("[THINK]", OPEN).replace("[/THINK]", CLOSE) if text.lstrip().startswith("[THINK]") else text
    reasoning, content = _split_reasoning(text, thinking=thinking)
    if not calls:
        return Answer(reasoning, content)
    content, made = _split_calls(content, tools)
    return Answer(reasoning, content, tuple(made))


def _split_reasoning(text: str, *, thinking: bool) -> tuple[str, str]:
    """Return the reasoning and the rest; reasoning without an end has no rest."""
    if thinking and not text.lstrip().startswith(OPEN):
        text = OPEN + text
    if text.lstrip().startswith(OPEN) and CLOSE not in text:
        return text.lstrip().removeprefix(OPEN).strip(), ""
    reasoning, rest, _ = split_reasoning(text, "")
    return reasoning, rest


def _from_channels(text: str, tools: str, *, calls: bool) -> Answer:
    """Return the parts of an answer in gpt-oss's format: messages in the channels analysis, commentary and final."""
    reasoning, content, made = [], [], []
    for header, channel, body in _CHANNEL.findall(text):
        recipient = _RECIPIENT.search(f"{header} {channel}")
        if recipient and calls:
            made.append(named_call(recipient[1], body))
        elif channel.split()[:1] == ["analysis"]:
            reasoning.append(body.strip())
        else:
            content.append(body.strip())
    answer = "\n\n".join(content)
    if calls:
        answer, more = _split_calls(answer, tools)
        made += more
    return Answer("\n\n".join(reasoning), answer, tuple(made))


def _split_calls(text: str, tools: str) -> tuple[str, list[Call]]:
    """Return the text without calls, and the calls."""
    if "<tool_call>" in text:
        made = [call for block in _BLOCK.findall(text) for call in _from_block(block.strip(), tools)]
        return ENDS.sub("", _BLOCK.sub("", text)).strip(), made
    for tag in (MISTRAL, PYTHON):
        if tag in text:
            before, _, rest = text.partition(tag)
            rest = ENDS.sub("", rest)
            return before.strip(), _from_mistral(rest) if tag == MISTRAL else _from_objects(rest)
    if tools and _is_bare(bare := ENDS.sub("", text)):
        return "", _from_objects(bare)
    return text, []


def _from_block(text: str, tools: str) -> list[Call]:
    """Return the calls of the text between the tags: an object, a list of them, or tags (Qwen Coder, GLM)."""
    tagged = tagged_calls(text, tools)
    return [Call(item["name"], item["arguments"]) for item in tagged] if tagged else _from_objects(text)


def _from_mistral(rest: str) -> list[Call]:
    """Return the calls behind `[TOOL_CALLS]`: a JSON list, or names each with the JSON of its arguments."""
    if rest.lstrip().startswith(("[", "{")):
        return _from_objects(rest.replace(MISTRAL, " "))
    made = []
    for piece in rest.split(MISTRAL):
        match = MISTRAL_NAMED.match(piece)
        made.append(named_call(match[1], piece[match.end() :]) if match else Call("", None, piece.strip()))
    return made


def _from_objects(text: str) -> list[Call]:
    """Return the calls of JSON objects and lists of them, separated by semicolons, commas or spaces."""
    values, rest = _json_values(text)
    made = [_read(value) for value in values]
    if rest or not values:
        name = _NAME.search(rest)
        made.append(Call(name[1] if name else "", None, rest))
    return made


def _json_values(text: str) -> tuple[list[Any], str]:
    """Return the values of a text of JSON, those of lists one by one, and the rest from the first that is broken."""
    decoder, at = json.JSONDecoder(), 0
    values: list[Any] = []
    text = text.strip()
    while at < len(text):
        try:
            _, end = decoder.raw_decode(text, at)
            value = parse_json(text[at:end])
        except (ValueError, RecursionError):
            return values, text[at:]
        values += value if isinstance(value, list) else [value]
        at = end + len(text[end:]) - len(text[end:].lstrip("; ,\n\t\r"))
    return values, ""


def named_call(name: str, arguments: str) -> Call:
    """Return the call of a function with the JSON text of its arguments."""
    call, _ = read_call({"name": name, "arguments": arguments.strip()}, "")
    return Call(name, json.loads(call.arguments)) if call else Call(name, None, arguments.strip())


def _read(value: Any) -> Call:
    call, _ = read_call(value, "")
    if call is not None:
        return Call(call.name, json.loads(call.arguments))
    name = value.get("name") if isinstance(value, Mapping) else None
    return Call(name if isinstance(name, str) else "", None, json.dumps(value))


def _is_bare(text: str) -> bool:
    """Return whether a text without a tag is meant as calls: objects with the keys of calls, or broken JSON of one."""
    if not _MEANT.match(text):
        return False
    values, rest = _json_values(text)
    if not values:
        return '"parameters"' in rest or '"arguments"' in rest
    return all(isinstance(value, Mapping) and set(value) - {"type", "id"} in BARE for value in values)


def calls_text(calls: Iterable[Call | ToolCall]) -> str:
    """Return calls as a scores table holds them: JSON text."""
    rows: list[dict[str, Any]] = []
    for call in calls:
        if isinstance(call, ToolCall):
            rows.append({"name": call.name, "arguments": json.loads(call.arguments)})
        elif call.arguments is None:
            rows.append({"name": call.name, "invalid": call.invalid})
        else:
            rows.append({"name": call.name, "arguments": call.arguments})
    return write_json(rows)


def message_calls(text: str | None) -> list[dict[str, Any]] | None:
    """Return the calls of a cell of a scores table in the form of `message.tool_calls` of OpenAI's API; None of None.

    The arguments of an invalid call are its text.
    """
    if text is None:
        return None
    return [
        {
            "id": f"call_{number}",
            "type": "function",
            "function": {
                "name": call.name,
                "arguments": call.invalid if call.arguments is None else write_json(call.arguments),
            },
        }
        for number, call in enumerate(read_calls_text(text))
    ]


def read_calls_text(text: str | None) -> tuple[Call, ...]:
    """Return the calls of a cell of a scores table; None has no calls."""
    rows = json.loads(text) if text else []
    return tuple(Call(row["name"], row.get("arguments"), row.get("invalid", "")) for row in rows)
