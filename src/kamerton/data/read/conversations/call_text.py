"""Calls and results written into texts, as models write them: Hermes and Qwen, Llama 3, Mistral; others: `call_forms`.

Hermes and Qwen: `<tool_call>{"name": ..., "arguments": ...}</tool_call>` and `<tool_response>…</tool_response>`.
Llama 3: `<|python_tag|>` or nothing before the JSON of a call with `parameters`. Mistral: `[TOOL_CALLS] [{...}]` or
`[TOOL_CALLS]name[ARGS]{...}`, and `[TOOL_RESULTS]{...}[/TOOL_RESULTS]`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from kamerton.data.read.conversations.call_forms import (
    DEEPSEEK,
    deepseek_calls,
    python_calls,
    python_value,
    tagged_calls,
)
from kamerton.data.read.conversations.calls import Call, parse_json, read_arguments, read_calls
from kamerton.errors import Fault

HERMES, HERMES_END = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL), "</tool_call>"
RESPONSE = re.compile(r"<tool_response>(.*?)</tool_response>", re.DOTALL)
MISTRAL, PYTHON = "[TOOL_CALLS]", "<|python_tag|>"
MISTRAL_RESULT = re.compile(r"\[TOOL_RESULTS\](.*?)\[/TOOL_RESULTS\]", re.DOTALL)
MISTRAL_NAMED = re.compile(r"\s*([\w.-]+)\s*(?:\[CALL_ID\]\s*(\w+)\s*)?(?:\[ARGS\])?\s*(?=\{)")
ENDS = re.compile(r"(?:</s>|<\|eom_id\|>|<\|eot_id\|>)\s*$")  # a rendered turn's end behind the calls
BARE = ({"name", "parameters"}, {"name", "arguments"})  # the keys of a call that is the whole content


def split_calls(text: str, place: str, tools: str) -> tuple[str, list[Call], list[Fault]]:
    """Return the content of an assistant's turn before the calls in it, the calls, and the faults.

    `tools` defines the functions of the row (JSON as in `DataExample`; an empty list if they are known to be in its
    texts alone). Without any, JSON and Python without a tag are no calls.
    """
    if "<tool_call>" in text:
        return _hermes(text, place, tools)
    if DEEPSEEK in text:
        before, items, rest = deepseek_calls(text)
        calls, faults = read_calls(items, f"{place}.{DEEPSEEK}")
        return before, calls, faults or ([late_text_fault(place, rest)] if rest else [])
    if MISTRAL in text:
        before, _, rest = text.partition(MISTRAL)
        return before.strip(), *_mistral(ENDS.sub("", rest), place)
    if text.lstrip().startswith(PYTHON):
        return "", *_objects(ENDS.sub("", text.lstrip().removeprefix(PYTHON)), place)
    if tools and _is_bare_call(text):
        return "", *read_calls(text, place)
    written = python_calls(text) if text.rstrip().endswith(")]") else []
    if written and tools:
        return "", *read_calls(written, place)
    return text, [], []


def split_results(text: str) -> list[tuple[str, str | None]]:
    """Return the results, each with the id of its call, of a text that consists of results; [] for other texts."""
    stripped = text.strip()
    is_response = stripped.startswith("<tool_response>") and stripped.endswith("</tool_response>")
    if is_response and not RESPONSE.sub("", stripped).strip():
        return [(result.strip(), None) for result in RESPONSE.findall(stripped)]
    is_result = stripped.startswith("[TOOL_RESULTS]") and stripped.endswith("[/TOOL_RESULTS]")
    if is_result and not MISTRAL_RESULT.sub("", stripped).strip():
        return [pair for result in MISTRAL_RESULT.findall(stripped) for pair in _mistral_results(result.strip())]
    return []


def _hermes(text: str, place: str, tools: str) -> tuple[str, list[Call], list[Fault]]:
    start = text.index("<tool_call>")
    calls, faults = [], []
    closed = text[: text.rfind(HERMES_END) + len(HERMES_END)] if HERMES_END in text else ""
    for i, block in enumerate(HERMES.findall(closed)):  # behind it, each search for an end would read the whole rest
        value: object = tagged_calls(block, tools) or block.strip()
        if isinstance(value, str) and value.startswith("{'"):  # as Python prints it, in Hermes' own data
            value = python_value(value) or value
        block_calls, block_faults = read_calls(value, f"{place}.<tool_call>[{i}]")
        calls += block_calls
        faults += block_faults
    rest = ENDS.sub("", HERMES.sub("", closed[start:]) + text[max(start, len(closed)) :]).strip()
    if not faults and rest:
        faults.append(late_text_fault(place, rest))
    return text[:start].strip(), calls, faults


def late_text_fault(place: str, text: str) -> Fault:
    """Return the fault of text behind a call in one turn, an order that templates do not write."""
    if text.startswith("<tool_call>"):
        return Fault("bad-messages", "<tool_call> is not closed", "write </tool_call> behind the call", column=place)
    if text.startswith(DEEPSEEK):
        return Fault("bad-messages", f"{text[:60]!r} is not a whole call", "write its end behind it", column=place)
    message = f"text follows a call ({text[:40]!r}); in a turn, calls come last"
    return Fault("bad-messages", message, "write the text before the call, or as a turn of its own", column=place)


def _mistral(rest: str, place: str) -> tuple[list[Call], list[Fault]]:
    """Return the calls behind `[TOOL_CALLS]`: a JSON list, or names each with the JSON of its arguments."""
    if rest.lstrip().startswith("["):
        return read_calls(rest, f"{place}.{MISTRAL}")
    items = []
    for piece in rest.split(MISTRAL):
        match = MISTRAL_NAMED.match(piece)
        if match is None:
            message = f"{MISTRAL} is not followed by a call ({piece.strip()[:40]!r})"
            return [], [Fault("bad-arguments", message, f"write {MISTRAL} [{{...}}]", column=place)]
        items.append({"name": match[1], "id": match[2], "arguments": piece[match.end() :]})
    return read_calls(items, f"{place}.{MISTRAL}")


def _mistral_results(text: str) -> list[tuple[str, str | None]]:
    """Return the results of `{"content": ..., "call_id": ...}`, alone or in a list; any other text is one result."""
    try:
        values = parse_json(text)
    except ValueError:
        return [(text, None)]
    values = values if isinstance(values, list) and values else [values]
    if not all(isinstance(value, Mapping) and "content" in value for value in values):
        return [(text, None)]
    return [
        (content if isinstance(content := value["content"], str) else json.dumps(content, ensure_ascii=False), call_id)
        for value in values
        for call_id in [value.get("call_id")]
    ]


def _objects(text: str, place: str) -> tuple[list[Call], list[Fault]]:
    """Return the calls of one or more JSON objects, separated by semicolons or spaces, as Llama 3 writes them."""
    decoder, at, items = json.JSONDecoder(), 0, []
    text = text.strip()
    while at < len(text):
        try:
            item, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            message = f"{PYTHON} is not followed by the JSON of a call ({text[at : at + 40]!r})"
            fix = f'write {PYTHON}{{"name": ..., "parameters": {{...}}}}'
            return [], [Fault("bad-arguments", message, fix, column=place)]
        items += item if isinstance(item, list) else [item]
        at += len(text[at:]) - len(text[at:].lstrip("; \n\t\r"))
    return read_calls(items, f"{place}.{PYTHON}")


def _is_bare_call(text: str) -> bool:
    """Return whether a text is the JSON of a call, or of a list of calls, and nothing else."""
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        values = parse_json(text)
    except ValueError:
        return False
    values = values if isinstance(values, list) else [values]
    return bool(values) and all(
        isinstance(value, Mapping)
        and set(value) - {"type", "id"} in BARE
        and isinstance(value["name"], str)
        and not read_arguments(next(value[key] for key in ("parameters", "arguments") if key in value))[1]
        for value in values
    )
