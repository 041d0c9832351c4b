"""Calls against the functions of a row and against their results: each fault with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kamerton.data.codes import CODES
from kamerton.data.options import Columns
from kamerton.data.read.columns.fields import to_fields
from kamerton.data.read.columns.layout import Layout
from kamerton.data.read.columns.schema import find_layout
from kamerton.errors import Fault

Turn = dict[str, Any]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
            "required": ["city"],
        },
    },
}
USER = {"role": "user", "content": "Weather?"}
ANSWER = {"role": "assistant", "content": "Rain."}


def call(arguments: object = '{"city": "Oslo"}', name: str = "get_weather", call_id: str | None = "a") -> Turn:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*values: Turn, **more: Any) -> Turn:
    return {"role": "assistant", "content": None, "tool_calls": list(values), **more}


def result(call_id: str | None = "a", **more: Any) -> Turn:
    return {"role": "tool", "tool_call_id": call_id, "content": "Rain", **more}


def read(turns: list[Any], tools: Any = None, action: str = "error") -> tuple[Any, list[Fault]]:
    record = {"messages": turns} | ({"tools": tools} if tools is not None else {})
    layout = find_layout(record, Columns())
    assert isinstance(layout, Layout)
    return to_fields(record, layout, lambda code: action if action in CODES[code].actions else CODES[code].actions[0])


FAULTS: dict[str, tuple[list[Any], str, str, str]] = {
    # turns, code, column, and words of the message
    "unknown": ([USER, calls(call(name="get_wether"))], "unknown-function", "messages[1].tool_calls[0]", "get_weather"),
    "not json": (
        [USER, calls(call("{'city': 'Oslo'}"))],
        "bad-arguments",
        "messages[1].tool_calls[0].function.arguments",
        "get_weather",
    ),
    "not an object": (
        [USER, calls(call("[1]"))],
        "bad-arguments",
        "messages[1].tool_calls[0].function.arguments",
        "a list",
    ),
    "nan": (
        [USER, calls(call('{"days": NaN}'))],
        "bad-arguments",
        "messages[1].tool_calls[0].function.arguments",
        "NaN",
    ),
    "key twice": (
        [USER, calls(call('{"city": "Oslo", "city": "Rome"}'))],
        "bad-arguments",
        "messages[1].tool_calls[0].function.arguments",
        "'city' occurs twice",
    ),
    "no name": ([USER, calls({"function": {"arguments": "{}"}})], "bad-messages", "messages[1].tool_calls[0]", "name"),
    "required": (
        [USER, calls(call("{}"))],
        "arguments-schema",
        "messages[1].tool_calls[0].arguments",
        '"city" is a required property',
    ),
    "type": (
        [USER, calls(call(), call({"city": "Rome", "days": 0}, call_id="b"))],
        "arguments-schema",
        "messages[1].tool_calls[1].arguments",
        "days: 0 is less than the minimum of 1",
    ),
    "stray result": ([USER, result(), ANSWER], "stray-result", "messages[1]", "follows no call"),
    "second result": ([USER, calls(call()), result(), result(), ANSWER], "stray-result", "messages[3]", "no call"),
    "unanswered": (
        [USER, calls(call()), USER, ANSWER],
        "unanswered-call",
        "messages[1].tool_calls[0]",
        "no result before messages[2]",
    ),
    "one of two": (
        [USER, calls(call(), call(call_id="b")), result("b"), ANSWER],
        "unanswered-call",
        "messages[1].tool_calls[0]",
        "no result before messages[3]",
    ),
    "other id": (
        [USER, calls(call()), result("b"), ANSWER],
        "call-id",
        "messages[2].tool_call_id",
        "'b', but the calls before it have a",
    ),
    "same id": (
        [USER, calls(call(), call()), result(), result(), ANSWER],
        "call-id",
        "messages[1].tool_calls[1]",
        "also that of an earlier call",
    ),
    "other name": ([USER, calls(call()), result(name="get_time"), ANSWER], "call-id", "messages[2].name", "get_time"),
    "call of the user": (
        [USER | {"tool_calls": [call()]}, ANSWER],
        "misplaced-call",
        "messages[0].tool_calls",
        "only the assistant's",
    ),
    "reasoning of the user": (
        [USER | {"reasoning_content": "Hm."}, ANSWER],
        "misplaced-reasoning",
        "messages[0].reasoning_content",
        "only the assistant's",
    ),
    "text after a call": (
        [USER, {"role": "assistant", "content": '<tool_call>{"name": "get_weather"}</tool_call> and so on'}],
        "bad-messages",
        "messages[1].content",
        "and so on",
    ),
    "call in a tag": (
        [USER, {"role": "assistant", "content": "<tool_call>get_weather()</tool_call>"}],
        "bad-arguments",
        "messages[1].content.<tool_call>[0]",
        "not JSON",
    ),
    "open tag": (
        [USER, {"role": "assistant", "content": "<think>Hm."}],
        "bad-messages",
        "messages[1].content",
        "no </think>",
    ),
    "reasoning alone": (
        [USER, {"role": "assistant", "channel": "analysis", "content": "Hm."}],
        "bad-messages",
        "messages[1]",
        "without an answer",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_a_conversation_has_its_place(name: str) -> None:
    turns, code, column, words = FAULTS[name]
    fields, (fault, *others) = read(turns, [WEATHER])
    assert fields is None
    assert not others
    assert (fault.code, fault.column) == (code, column)
    assert words in fault.message
    assert fault.fix


@pytest.mark.parametrize(
    "name", ["unknown", "required", "stray result", "unanswered", "other id", "same id", "other name"]
)
def test_a_conversation_with_a_doubtful_call_is_kept_with_a_warning(name: str) -> None:
    turns, code, _, _ = FAULTS[name]
    fields, (fault, *_) = read(turns, [WEATHER], action="warn")
    assert fields is not None
    assert fault.code == code


def test_reasoning_in_a_users_turn_is_removed_by_the_fix() -> None:
    fields, _ = read(FAULTS["reasoning of the user"][0], action="fix")
    assert json.loads(fields.prompt) == [["user", "Weather?", 1.0]]


@pytest.mark.parametrize(
    "turns",
    [
        [USER, calls(call())],
        [USER, calls(call(call_id=None), call(call_id=None)), result(None), result(None), ANSWER],
        [USER, calls(call()), result(None), ANSWER],
        [USER, calls(call("")), result(), ANSWER],
    ],
)
def test_calls_that_are_right(turns: list[Any]) -> None:
    fields, faults = read(turns, [{"type": "function", "function": {"name": "get_weather"}}])
    assert not faults
    assert fields is not None


def test_without_definitions_any_function_may_be_called() -> None:
    assert read([USER, calls(call(name="f"))])[1] == []


def test_null_arguments_that_a_table_added_are_removed_by_the_fix() -> None:
    turns = [USER, calls(call({"city": "Oslo", "days": None, "year": None}))]
    fields, (fault,) = read(turns, [WEATHER])
    assert fields is None
    assert (fault.code, fault.column) == ("null-arguments", "messages[1].tool_calls[0].arguments")
    assert "days, year of get_weather are null" in fault.message
    fields, _ = read(turns, [WEATHER], action="fix")
    assert json.loads(fields.extras)["tool_calls"] == [["get_weather", '{"city": "Oslo"}', "a"]]


def test_a_parameter_may_allow_null() -> None:
    schema = {"type": "object", "properties": {"city": {"type": ["string", "null"]}, "days": {}}}
    tools = [{"name": "get_weather", "parameters": schema}]
    assert read([USER, calls(call({"city": None, "days": None}))], tools)[1] == []


def test_definitions_in_the_system_turn_are_not_added_again() -> None:
    system = {"role": "system", "content": f"Functions: <tools>{json.dumps([WEATHER])}</tools>"}
    fields, faults = read([system, USER, calls(call())], [WEATHER])
    assert not faults
    assert "tools" not in json.loads(fields.extras)
    assert read([system, USER, calls(call(name="f"))], [WEATHER])[1][0].code == "unknown-function"
