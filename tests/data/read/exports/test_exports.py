"""Exports and logs of other programs are read as conversations or labelled rows, or refused with one fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kamerton.data.example import DataExample, Message, ToolCall
from kamerton.data.gate import prepare
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.data.validation import read_examples
from kamerton.errors import Fault, UserError
from support.rows import write_jsonl
from support.settings import data_options, settings_of

Row = dict[str, Any]
ALL = SplitOptions(ratios=[1, 0, 0])
CALL = ToolCall("get_weather", '{"city": "Oslo"}')
TOOL = {"name": "get_weather", "parameters": {"type": "object"}}
HUMAN = {"role": "user", "content": "Weather in Oslo?"}
RAIN = {"role": "assistant", "content": "Rain."}


def read(tmp_path: Path, row: Row) -> DataExample:
    path = write_jsonl(tmp_path / "rows.jsonl", [row] * 2)
    prepared = prepare(DataOptions(path=str(path), labels=None, policy={"exact-duplicate": "drop"}), ALL)
    (example,) = prepared.splits["train"]
    return example


def faults(tmp_path: Path, rows: list[Row]) -> tuple[Fault, ...]:
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(UserError) as caught:
        prepare(DataOptions(path=str(path)), ALL)
    return caught.value.faults


LOGS: dict[str, Row] = {
    "openai chat": {
        "request": {"model": "m", "messages": [HUMAN], "temperature": 0.2},
        "response": {"id": "x", "choices": [{"index": 0, "message": RAIN, "finish_reason": "stop"}], "usage": {"n": 3}},
    },
    "http bodies": {
        "request": {"url": "/v1/chat", "body": {"messages": [HUMAN]}},
        "response": {"status_code": 200, "body": {"choices": [{"message": RAIN}]}},
    },
    "openai responses": {
        "input": [HUMAN],
        "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Rain."}]}],
    },
    "openai responses, texts": {
        "request": {"input": "Weather in Oslo?", "model": "m"},
        "response": {"output": [{"type": "message", "role": "assistant", "content": "Rain."}], "status": "completed"},
    },
    "anthropic": {
        "request": {"messages": [HUMAN], "max_tokens": 9},
        "response": {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Rain."}]},
    },
    "gemini": {
        "request": {"contents": [{"parts": [{"text": "Weather in Oslo?"}]}]},
        "response": {"candidates": [{"content": {"role": "model", "parts": [{"text": "Rain."}]}}]},
    },
    "openai stored": {
        "id": "c",
        "object": "chat.completion",
        "input": [HUMAN],
        "choices": [{"index": 0, "message": RAIN, "finish_reason": "stop"}],
    },
    "helicone": {
        "request_id": "r",
        "request_body": {"model": "m", "messages": [HUMAN]},
        "response_body": {"choices": [{"message": RAIN}]},
    },
    "cohere": {"messages": [{"role": "User", "message": HUMAN["content"]}, {"role": "Chatbot", "message": "Rain."}]},
    "litellm": {"messages": [HUMAN], "response": {"choices": [{"message": RAIN}]}},
    "langfuse": {"id": "t", "name": "chat", "input": {"messages": [HUMAN]}, "output": RAIN, "metadata": None},
    "langfuse text": {"input": [HUMAN], "output": "Rain."},
    "langfuse item": {"input": {"question": "Weather in Oslo?"}, "expectedOutput": "Rain."},
    "langsmith": {
        "inputs": {"messages": [[{"lc": 1, "id": ["l", "HumanMessage"], "kwargs": {"content": "Weather in Oslo?"}}]]},
        "outputs": {
            "generations": [[{"text": "Rain.", "message": {"id": ["l", "AIMessage"], "kwargs": {"content": "Rain."}}}]]
        },
    },
    "langgraph": {"inputs": {"messages": [HUMAN]}, "outputs": {"messages": [HUMAN, RAIN]}},
    "vertex": {
        "contents": [
            {"role": "user", "parts": [{"text": "Weather in Oslo?"}]},
            {"role": "model", "parts": [{"text": "Rain."}]},
        ]
    },
    "bedrock": {
        "schemaVersion": "bedrock-conversation-2024",
        "messages": [
            {"role": "user", "content": [{"text": "Weather in Oslo?"}]},
            {"role": "assistant", "content": [{"text": "Rain."}]},
        ],
    },
    "langchain": {"messages": [{"type": "human", "content": "Weather in Oslo?"}, {"type": "ai", "content": "Rain."}]},
    "turns as text": {"messages": json.dumps([HUMAN, RAIN])},
    "chatgpt": {
        "title": "Rain",
        "current_node": "c",
        "mapping": {
            "a": {"message": None, "parent": None},
            "b": {
                "message": {
                    "author": {"role": "user"},
                    "content": {"content_type": "text", "parts": ["Weather in Oslo?"]},
                },
                "parent": "a",
            },
            "c": {"message": {"author": {"role": "assistant"}, "content": {"parts": ["Rain."]}}, "parent": "b"},
            "d": {"message": {"author": {"role": "assistant"}, "content": {"parts": ["Snow."]}}, "parent": "b"},
        },
    },
    "claude": {
        "chat_messages": [{"sender": "human", "text": "Weather in Oslo?"}, {"sender": "assistant", "text": "Rain."}]
    },
}


@pytest.mark.parametrize("name", LOGS)
def test_a_log_is_read_as_its_conversation(tmp_path: Path, name: str) -> None:
    example = read(tmp_path, LOGS[name])
    assert [(turn.role, turn.content) for turn in example.messages] == [
        ("user", "Weather in Oslo?"),
        ("assistant", "Rain."),
    ]


TOOL_LOGS: dict[str, Row] = {
    "anthropic": {
        "system": "Be brief.",
        "request": {
            "system": [{"type": "text", "text": "Be brief."}],
            "tools": [{"name": "get_weather", "input_schema": {"type": "object"}}],
            "messages": [HUMAN],
        },
        "response": {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Look.", "signature": "x"},
                {"type": "tool_use", "id": "a", "name": "get_weather", "input": {"city": "Oslo"}},
            ],
        },
    },
    "openai responses": {
        "input": {"instructions": "Be brief.", "input": "Weather in Oslo?", "tools": [{"type": "function", **TOOL}]},
        "output": [
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "Look."}]},
            {"type": "function_call", "id": "f", "call_id": "a", "name": "get_weather", "arguments": '{"city":"Oslo"}'},
        ],
    },
    "vertex": {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "tools": [{"functionDeclarations": [{"name": "get_weather", "parameters": {"type": "OBJECT"}}]}],
        "contents": [
            {"role": "user", "parts": [{"text": "Weather in Oslo?"}]},
            {
                "role": "model",
                "parts": [
                    {"text": "Look.", "thought": True},
                    {"functionCall": {"id": "a", "name": "get_weather", "args": {"city": "Oslo"}}},
                ],
            },
        ],
    },
    "bedrock": {
        "toolConfig": {"tools": [{"toolSpec": {"name": "get_weather", "inputSchema": {"json": {"type": "object"}}}}]},
        "messages": [
            {"role": "system", "content": [{"text": "Be brief."}]},
            {"role": "user", "content": [{"text": "Weather in Oslo?"}]},
            {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": "Look."}}},
                    {"toolUse": {"toolUseId": "a", "name": "get_weather", "input": {"city": "Oslo"}}},
                ],
            },
        ],
    },
}


def test_answers_of_xlam_are_calls(tmp_path: Path) -> None:
    row = {
        "id": 0,
        "query": "Weather in Oslo?",
        "answers": '[{"name": "get_weather", "arguments": {"city": "Oslo"}}]',
        "tools": '[{"name": "get_weather", "parameters": {"city": {"type": "str", "description": "A city."}}}]',
    }
    example = read(tmp_path, row)
    assert example.messages == (Message("user", "Weather in Oslo?"), Message("assistant", "", tool_calls=(CALL,)))


@pytest.mark.parametrize("name", TOOL_LOGS)
def test_functions_calls_reasoning_and_the_system_turn_of_a_log_are_read(tmp_path: Path, name: str) -> None:
    row = {key: value for key, value in TOOL_LOGS[name].items() if key != "system"}
    example = read(tmp_path, row)
    assert example.messages == (
        Message("system", "Be brief."),
        Message("user", "Weather in Oslo?"),
        Message("assistant", "", reasoning="Look.", tool_calls=(ToolCall(CALL.name, CALL.arguments, "a"),)),
    )
    assert '"name":"get_weather"' in example.tools.replace(" ", "")


def label_studio(*values: Row, **data: Any) -> Row:
    results = [
        {"from_name": f"q{i}", "to_name": "t", "type": "choices", "value": value} for i, value in enumerate(values)
    ]
    return {"id": 1, "data": data or {"review": "Nice oven."}, "annotations": [{"result": results}], "predictions": []}


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        (label_studio({"choices": ["oven"]}), "oven"),
        (label_studio({"text": ["A good oven."]}), "A good oven."),
        (label_studio({"taxonomy": [["home", "oven"]]}), "home / oven"),
        ({"fields": {"review": "Nice oven."}, "responses": {"q": [{"value": "oven", "user_id": "u"}]}}, "oven"),
        (
            {
                "fields": {"review": "Nice oven."},
                "responses": [
                    {"status": "discarded", "values": {}},
                    {"status": "submitted", "values": {"q": {"value": "oven"}}},
                ],
            },
            "oven",
        ),
        ({"review": "Nice oven.", "q.responses": ["oven"], "q.responses.users": ["u"], "q.suggestion": "no"}, "oven"),
    ],
)
def test_an_annotation_is_the_answer_to_its_task(tmp_path: Path, row: Row, answer: str) -> None:
    example = read(tmp_path, row)
    assert (example.prompt, example.completion) == ("Nice oven.", answer)


def test_a_conversation_in_argilla_is_the_prompt(tmp_path: Path) -> None:
    row = {"fields": {"chat": [HUMAN]}, "responses": {"answer": [{"value": "Rain."}]}}
    assert [turn.content for turn in read(tmp_path, row).messages] == ["Weather in Oslo?", "Rain."]


SPAN = {"start": 0, "end": 4, "text": "Nice", "labels": ["good"]}
REFUSED: dict[str, tuple[Row, str]] = {
    "no annotation": (label_studio() | {"annotations": []}, "no annotation"),
    "boxes": (label_studio({"x": 1, "y": 1, "rectanglelabels": ["good"]}), "mark a part of the task"),
    "two answers": (
        {"fields": {"t": "a"}, "responses": {"q": [{"value": "x"}, {"value": "y"}]}},
        "different answers to q",
    ),
    "batch requests": (
        {"custom_id": "1", "method": "POST", "body": {"messages": [HUMAN]}},
        "requests of a batch alone",
    ),
    "batch responses": ({"custom_id": "1", "response": {"body": {}}, "error": None}, "responses of a batch alone"),
    "trees": ({"message_id": "1", "parent_id": None, "text": "a", "role": "prompter"}, "tree of messages"),
    "arguments": ({"input": {"args": [], "kwargs": {"k": {"a": 1}}}, "output": {"x": 1}}, "no conversation"),
    "two choices": (
        {"input": [HUMAN], "output": {"choices": [{"message": RAIN}, {"message": RAIN}]}},
        "no conversation",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_without_conversations_is_one_fault(tmp_path: Path, name: str) -> None:
    row, words = REFUSED[name]
    fault = faults(tmp_path, [row] * 30)[0]
    assert fault.code == "bad-export"
    assert words in fault.message
    assert "(30 rows)" in fault.message


def test_marked_parts_are_the_answer_by_the_setting_of_the_fault(tmp_path: Path) -> None:
    rows = [label_studio(SPAN, SPAN | {"labels": ["mood", "good"]}, review=f"Nice oven {i}.") for i in range(8)]
    (fault,) = faults(tmp_path, rows)
    (settings,) = settings_of(fault.fix)
    path = str(tmp_path / "rows.jsonl")
    example = next(iter(read_examples(DataOptions(path=path, **data_options(settings)))))
    assert example.prompt == "Nice oven 0."
    assert json.loads(example.completion) == [
        {"text": "Nice", "label": "good"},
        {"text": "Nice", "label": ["mood", "good"]},
    ]


def test_rows_without_an_annotation_are_left_out_by_the_policy(tmp_path: Path) -> None:
    rows = [label_studio({"choices": ["oven"]}, text="Nice."), label_studio(text="Bad.") | {"annotations": []}]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    prepared = prepare(DataOptions(path=str(path), policy={"bad-export": "drop"}), ALL)
    assert len(prepared.splits["train"]) == 1
    assert prepared.report["rejected"] == {"bad-export": 1}


def test_templates_and_names_of_columns_apply_to_the_unpacked_row(tmp_path: Path) -> None:
    row = {"fields": {"context": "It rains.", "ask": "Weather?"}, "responses": {"q": [{"value": "rain"}]}}
    path = write_jsonl(tmp_path / "rows.jsonl", [row] * 2)
    options = DataOptions(path=str(path), prompt="{context} {ask}", completion="{completion}", labels=None)
    (example,) = prepare(options, ALL).splits["train"]
    assert (example.prompt, example.completion) == ("It rains. Weather?", "rain")
