"""Conversations in the forms of other programs are read as the same turns."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kamerton.data.example import DataExample, Message, ToolCall
from kamerton.data.options import Columns
from kamerton.data.read.columns.fields import to_fields
from kamerton.data.read.columns.schema import find_layout
from kamerton.data.stored import to_example
from kamerton.errors import Fault

Turn = dict[str, Any]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
OSLO = '{"city": "Oslo"}'
CALLED = (
    Message("user", "Weather in Oslo?"),
    Message("assistant", "", tool_calls=(ToolCall("get_weather", OSLO),)),
    Message("tool", "4 degrees"),
)


def action(code: str) -> str:
    return "fix" if code in ("trailing-turns", "misplaced-reasoning") else "error"


def read(record: dict[str, Any]) -> DataExample:
    layout = find_layout(record, Columns())
    assert not isinstance(layout, Fault), layout
    fields, faults = to_fields(record, layout, action)
    assert fields is not None, faults
    return to_example(fields.prompt, fields.chat, fields.completion, None, fields.extras)


def faults_of(record: dict[str, Any]) -> list[Fault]:
    layout = find_layout(record, Columns())
    assert not isinstance(layout, Fault), layout
    fields, faults = to_fields(record, layout, lambda code: "error")
    assert fields is None
    return faults


def openai(*turns: Turn, tools: Any = None) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Weather in Oslo?"}, *turns]} | ({"tools": tools} if tools else {})


ANSWER = {"role": "assistant", "content": "It is 4 degrees."}
FORMS = {
    "legacy": openai(
        {
            "role": "assistant",
            "content": None,
            "function_call": {"name": "get_weather", "arguments": '{"city":"Oslo"}'},
        },
        {"role": "function", "content": "4 degrees"},
        ANSWER,
    ),
    "object": openai(
        {"role": "assistant", "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}]},
        {"role": "tool", "content": "4 degrees"},
        ANSWER,
    ),
    "sharegpt": {
        "conversations": [
            {"from": "human", "value": "Weather in Oslo?"},
            {"from": "function_call", "value": '{"name": "get_weather", "arguments": {"city": "Oslo"}}'},
            {"from": "observation", "value": "4 degrees"},
            {"from": "gpt", "value": "It is 4 degrees."},
        ]
    },
    "hermes": openai(
        {
            "role": "assistant",
            "content": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>',
        },
        {"role": "user", "content": "<tool_response>\n4 degrees\n</tool_response>"},
        ANSWER,
    ),
    "mistral": openai(
        {"role": "assistant", "content": '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Oslo"}}]</s>'},
        {"role": "tool", "content": "[TOOL_RESULTS] 4 degrees[/TOOL_RESULTS]"},
        ANSWER,
    ),
    "mistral 3": openai(
        {"role": "assistant", "content": '[TOOL_CALLS]get_weather[ARGS]{"city": "Oslo"}'},
        {"role": "tool", "content": "4 degrees"},
        ANSWER,
    ),
    "llama tag": openai(
        {
            "role": "assistant",
            "content": '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Oslo"}}<|eom_id|>',
        },
        {"role": "ipython", "content": "4 degrees"},
        ANSWER,
    ),
    "harmony": openai(
        {
            "role": "assistant",
            "channel": "commentary",
            "recipient": "functions.get_weather",
            "content": OSLO,
        },
        {"role": "tool", "content": "4 degrees"},
        ANSWER | {"channel": "final"},
    ),
    "langchain": openai(
        {"type": "ai", "content": "", "tool_calls": [{"name": "get_weather", "args": {"city": "Oslo"}, "id": None}]},
        {"type": "tool", "data": {"content": "4 degrees"}},
        {"type": "ai", "data": {"content": "It is 4 degrees."}},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_call_in_any_form_is_the_same_conversation(form: str) -> None:
    example = read(FORMS[form])
    assert example.messages == (*CALLED, Message("assistant", "It is 4 degrees."))


def test_llama_calls_without_a_tag_need_definitions() -> None:
    text = '{"name": "get_weather", "parameters": {"city": "Oslo"}}'
    turn = {"role": "assistant", "content": text}
    assert read(openai(turn)).completion == text
    assert read(openai(turn, tools=[WEATHER])).tool_calls == (ToolCall("get_weather", OSLO),)


def test_several_calls_beside_content_with_ids_and_names() -> None:
    calls = [
        {
            "id": f"call_{i}",
            "type": "function",
            "function": {"name": "get_weather", "arguments": json.dumps({"city": city})},
        }
        for i, city in enumerate(["Oslo", "Łódź"])
    ]
    results = [{"role": "tool", "tool_call_id": f"call_{i}", "name": "get_weather", "content": ""} for i in (1, 0)]
    example = read(openai({"role": "assistant", "content": "Let me see.", "tool_calls": calls}, *results, ANSWER))
    assert example.prompt[1:] == (
        Message(
            "assistant",
            "Let me see.",
            tool_calls=(ToolCall("get_weather", OSLO, "call_0"), ToolCall("get_weather", '{"city": "Łódź"}', "call_1")),
        ),
        Message("tool", "", tool_call_id="call_1", name="get_weather"),
        Message("tool", "", tool_call_id="call_0", name="get_weather"),
    )


def test_an_answer_of_calls_alone_is_the_completion() -> None:
    call = {"id": "a", "function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}
    example = read(openai({"role": "assistant", "content": None, "tool_calls": [call]}, tools=[WEATHER]))
    assert (example.completion, example.tool_calls) == ("", (ToolCall("get_weather", OSLO, "a"),))
    assert json.loads(example.tools) == [WEATHER]


PARTS = [{"type": "thinking", "thinking": "Easy."}, {"type": "text", "text": "4"}]


@pytest.mark.parametrize(
    "turn",
    [
        {"content": "4", "reasoning_content": "Easy."},
        {"content": "4", "reasoning": "Easy."},
        {"content": "4", "thinking": "Easy."},
        {"content": "<think>\nEasy.\n</think>\n\n4"},
        {"content": "Easy.</think>4"},
        {"content": PARTS},
        {"content": "<think>Easy.</think>4", "reasoning_content": "Easy."},
    ],
)
def test_reasoning_in_any_form_is_apart_from_the_answer(turn: Turn) -> None:
    example = read({"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", **turn}]})
    assert (example.reasoning, example.completion) == ("Easy.", "4")


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "2+2?", "completion": "<think>Easy.</think>4"},
        {"prompt": "2+2?", "completion": "4", "reasoning": "Easy."},
        {"instruction": "2+2?", "output": "4", "reasoning_content": "Easy."},
        {"prompt": "2+2?", "completion": [{"role": "assistant", "content": "4", "thinking": "Easy."}]},
        {"prompt": "2+2?", "completion": {"role": "assistant", "content": "4", "thinking": "Easy."}},
        {
            "messages": [
                {"role": "user", "content": "2+2?"},
                {"role": "assistant", "channel": "analysis", "content": "Easy."},
                {"role": "assistant", "channel": "final", "content": "4"},
            ]
        },
    ],
)
def test_reasoning_of_a_row_is_that_of_its_answer(record: dict[str, Any]) -> None:
    example = read(record)
    assert (example.prompt_text.removeprefix("user: "), example.reasoning, example.completion) == ("2+2?", "Easy.", "4")


@pytest.mark.parametrize("text", ["Use <think> tags.", "First <think>a</think>b", "a < b", "[TOOL] {}"])
def test_tags_inside_an_answer_are_text(text: str) -> None:
    assert read({"prompt": "p", "completion": text}).completion == text


def test_weights_of_turns_and_rows_multiply() -> None:
    turns = [
        {"role": "user", "content": "a", "loss_weight": 0.0},
        {"role": "assistant", "content": "b", "weight": 0.5},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d", "weight": 3},
    ]
    example = read({"messages": turns, "weight": 2})
    assert [turn.weight for turn in example.messages] == [0, 1, 1, 6]
    assert read({"prompt": "p", "completion": "c", "sample_weight": "0.25"}).weight == 0.25
    assert read({"prompt": "p", "completion": "c", "train": True}).weight == 1


def test_a_turn_with_training_false_is_only_read() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "training": False}]
    turns += [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d", "training": True}]
    assert [turn.weight for turn in read({"messages": turns}).messages] == [1, 0, 1, 1]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"loss_weight": -1}, "bad-weight"),
        ({"sample_weight": "high"}, "bad-weight"),
        ({"loss_weight": 1e308}, "bad-weight"),
        ({"train": False}, "no-targets"),
        ({"loss_weight": 0}, "no-targets"),
    ],
)
def test_row_weights_that_cannot_be_used(row: dict[str, Any], code: str) -> None:
    (fault,) = faults_of({"prompt": "p", "completion": "c", **row})
    assert (fault.code, fault.column) == (code, next(iter(row)))


def test_tools_beside_a_prompt_are_kept_with_it() -> None:
    flat = {"name": "get_weather", "description": "Weather.", "input_schema": {"type": "object"}}
    example = read({"prompt": "p", "completion": "c", "tools": json.dumps([flat])})
    assert json.loads(example.tools) == [
        {
            "type": "function",
            "function": {"name": "get_weather", "description": "Weather.", "parameters": {"type": "object"}},
        }
    ]
    assert read({"prompt": "p", "completion": "c", "tools": "[]"}) == read({"prompt": "p", "completion": "c"})
