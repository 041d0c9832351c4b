"""Calls of functions in the forms that files have: names and arguments as `ToolCall`s.

Arguments are JSON text or an object; a `ToolCall` has them as JSON text with the order of keys, written one way, so
that equal calls in different forms are equal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kamerton.data.example import ToolCall
from kamerton.data.read.text import SURROGATES
from kamerton.errors import Fault

ARGUMENTS = ("arguments", "parameters", "args", "input")  # OpenAI, Llama, LangChain and Gemini, Anthropic
IDS = ("call_id", "id", "toolUseId")  # OpenAI's responses (whose `id` is another), chat completions, Bedrock
CALL_FIX = 'write {"name": ..., "arguments": {...}}'

Call = tuple[ToolCall, str]  # a call and its place
PLAIN = (str, int, float, bool, type(None))


class _DuplicateKeyError(ValueError):
    """An object of JSON has one key twice."""


def parse_json(text: str) -> Any:
    """Return the value of strict JSON text. Raises ValueError, also for NaN and for a key that an object has twice."""
    try:
        return json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateKeyError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} occurs twice")
    return result


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def write_json(value: object) -> str:
    """Return JSON text in the form of a `ToolCall`'s arguments. Raises ValueError for NaN and other non-JSON values."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def read_calls(value: object, place: str) -> tuple[list[Call], list[Fault]]:
    """Return the calls of a list, a single call, or JSON text of either."""
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except ValueError as error:
            return [], [Fault("bad-arguments", f"the call is not JSON: {error}", CALL_FIX, column=place)]
    if not isinstance(value, list):
        call, faults = read_call(value, place)
        return ([(call, place)] if call else []), faults
    calls, faults = [], []
    for i, item in enumerate(value):
        call, call_faults = read_call(item, f"{place}[{i}]")
        calls += [(call, f"{place}[{i}]")] if call else []
        faults += call_faults
    return calls, faults


def read_call(value: object, place: str) -> tuple[ToolCall | None, list[Fault]]:
    """Return a call of OpenAI's `{"function": {"name", "arguments"}}`, or of the flat form that others write."""
    if not isinstance(value, Mapping):
        return None, [Fault("bad-messages", "the call is not an object", CALL_FIX, column=place)]
    function = value.get("function")
    inner = function if isinstance(function, Mapping) else value
    name = function if isinstance(function, str) else inner.get("name")
    if not isinstance(name, str) or not name.strip():
        return None, [Fault("bad-messages", "the call has no name of a function", CALL_FIX, column=place)]
    call_id = _first_value(value, IDS)
    if not isinstance(call_id, PLAIN):
        return None, [Fault("bad-messages", "the call's id is not a text", "write it as a text", column=f"{place}.id")]
    where = f"{place}.function.arguments" if inner is not value else f"{place}.arguments"
    arguments, problem = read_arguments(_first_value(inner, ARGUMENTS))
    if problem:
        message = f"the arguments of {name} are not a JSON object: {problem}"
        fix = 'write an object, such as {"city": "Oslo"}, or its JSON text'
        return None, [Fault("bad-arguments", message, fix, column=where)]
    text_id = None if call_id is None else str(call_id)
    if SURROGATES.search("".join((name, arguments, text_id or ""))):
        message = "the call contains half of a surrogate pair"
        return None, [Fault("half-surrogate", message, "write whole characters", column=place)]
    return ToolCall(name.strip(), arguments, text_id), []


def read_arguments(value: object) -> tuple[str, str]:
    """Return arguments as JSON text of an object, and the problem (then the text is ""); none at all are `{}`."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return "{}", ""
    try:
        parsed = parse_json(value) if isinstance(value, str) else value
        if isinstance(parsed, Mapping):
            return write_json(parsed), ""
    except ValueError as error:
        return "", str(error)
    return "", f"a {type(parsed).__name__}" if not isinstance(parsed, list) else "a list"


def _first_value(item: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((item[name] for name in names if item.get(name) is not None), None)
