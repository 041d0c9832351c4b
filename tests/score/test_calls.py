"""Calls, reasoning and content of answers in the forms of several families of models."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessageFunctionToolCall

from kamerton.data.example import ToolCall
from kamerton.score.calls import Answer, Call, calls_text, message_calls, parse_answer, read_calls_text

TOOLS = json.dumps(
    [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "parameters": {
                    "type": "object",
                    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                },
            },
        }
    ]
)
OSLO, ROME = Call("weather", {"city": "Oslo"}), Call("weather", {"city": "Rome"})
CITY = '{"name": "weather", "arguments": {"city": "Oslo"}}'
ROMAN = '{"name": "weather", "arguments": {"city": "Rome"}}'

FORMS: dict[str, tuple[str, Answer]] = {
    "text": ("It rains.", Answer("", "It rains.")),
    "hermes": (f"<tool_call>\n{CITY}\n</tool_call>", Answer("", "", (OSLO,))),
    "hermes, parallel, after a text": (
        f"I look.\n<tool_call>{CITY}</tool_call>\n<tool_call>{ROMAN}</tool_call>",
        Answer("", "I look.", (OSLO, ROME)),
    ),
    "hermes, cut off": (f"<tool_call>\n{CITY[:-9]}", Answer("", "", (Call("weather", None, CITY[:-9]),))),
    "hermes, not closed": (f"<tool_call>{CITY}\n<tool_call>{ROMAN}", Answer("", "", (OSLO, ROME))),
    "hermes, empty": ("<tool_call></tool_call>", Answer("", "", (Call("", None, ""),))),
    "reasoning, then a call": (
        f"<think>\nNorth.\n</think>\n\n<tool_call>{CITY}</tool_call>",
        Answer("North.", "", (OSLO,)),
    ),
    "reasoning": ("<think>hm</think>It rains.", Answer("hm", "It rains.")),
    "reasoning, cut off": ("<think>hm, a call: <tool_call>", Answer("hm, a call: <tool_call>", "")),
    "reasoning of Mistral": ("[THINK]hm[/THINK]It rains.", Answer("hm", "It rains.")),
    "tags in the text": ("Write <think> and </think>.", Answer("", "Write <think> and </think>.")),
    "qwen coder": (
        "<tool_call>\n<function=weather>\n<parameter=city>\n12345\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
        "</function>\n</tool_call>",
        Answer("", "", (Call("weather", {"city": "12345", "days": 3}),)),
    ),
    "llama": ('{"name": "weather", "parameters": {"city": "Oslo"}}<|eot_id|>', Answer("", "", (OSLO,))),
    "llama, parallel": (
        '{"name": "weather", "parameters": {"city": "Oslo"}}; {"name": "weather", "parameters": {"city": "Rome"}}',
        Answer("", "", (OSLO, ROME)),
    ),
    "llama, cut off": (
        '{"name": "weather", "parameters": {"city',
        Answer("", "", (Call("weather", None, '{"name": "weather", "parameters": {"city'),)),
    ),
    "llama, with a tag": ('<|python_tag|>{"name": "weather", "parameters": {"city": "Oslo"}}', Answer("", "", (OSLO,))),
    "JSON that is no call": ('{"name": "Ada", "age": 3}', Answer("", '{"name": "Ada", "age": 3}')),
    "mistral": (f"[TOOL_CALLS] [{CITY}, {ROMAN}]</s>", Answer("", "", (OSLO, ROME))),
    "mistral, newer": ('[TOOL_CALLS]weather[ARGS]{"city": "Oslo"}', Answer("", "", (OSLO,))),
    "mistral, newer, parallel": (
        'Wait.[TOOL_CALLS]weather{"city": "Oslo"}[TOOL_CALLS]weather{"city": "Rome"}',
        Answer("", "Wait.", (OSLO, ROME)),
    ),
    "gpt-oss": (
        "<|channel|>analysis<|message|>North.<|end|><|start|>assistant<|channel|>commentary to=functions.weather "
        '<|constrain|>json<|message|>{"city": "Oslo"}<|call|>',
        Answer("North.", "", (OSLO,)),
    ),
    "gpt-oss, recipient first": (
        ' to=functions.weather<|channel|>commentary json<|message|>{"city": "Oslo"}',
        Answer("", "", (OSLO,)),
    ),
    "gpt-oss, answer": (
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>It rains.<|return|>",
        Answer("hm", "It rains."),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_is_read(form: str) -> None:
    text, expected = FORMS[form]
    assert parse_answer(text, TOOLS) == expected


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ('{"name": "weather", "arguments": {"city": NaN}}', "weather"),
        ('{"name": "weather", "arguments": {"city": 1, "city": 2}}', "weather"),
        ('{"name": "weather", "arguments": [1]}', "weather"),
        ('{"name": "weather", "arguments": "Oslo"}', "weather"),
        ('{"arguments": {}}', ""),
        ("weather(city='Oslo')", ""),
        ("[" * 10_000, ""),
    ],
)
def test_an_invalid_call_is_kept_with_its_text(written: str, name: str) -> None:
    (call,) = parse_answer(f"<tool_call>{written}</tool_call>").calls
    assert (call.name, call.arguments) == (name, None)
    assert call.invalid
    assert read_calls_text(calls_text([call])) == (call,)


def test_json_without_a_tag_is_a_call_only_with_functions() -> None:
    text = '{"name": "weather", "parameters": {"city": "Oslo"}}'
    assert parse_answer(text) == Answer("", text)
    assert parse_answer(text, TOOLS).calls == (OSLO,)


def test_calls_can_be_left_in_the_content() -> None:
    text = f"<tool_call>{CITY}</tool_call>"
    assert parse_answer(f"<think>hm</think>{text}", TOOLS, calls=False) == Answer("hm", text)


def test_reasoning_that_the_prompt_opens() -> None:
    assert parse_answer("hm</think>It rains.", thinking=True) == Answer("hm", "It rains.")
    assert parse_answer("hm", thinking=True) == Answer("hm", "")
    assert parse_answer("<think>hm</think>It rains.", thinking=True) == Answer("hm", "It rains.")


values: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('aé<>"{}[]\\'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=6,
)
calls = st.builds(
    Call, st.sampled_from(["a", "b.c", "d_e"]), st.dictionaries(st.text("xyz", min_size=1), values, max_size=3)
)


@given(st.lists(calls, min_size=1, max_size=3))
def test_what_is_written_in_a_form_is_read_back(made: list[Call]) -> None:
    objects = [json.dumps({"name": call.name, "arguments": call.arguments}) for call in made]
    forms = [
        "".join(f"\n<tool_call>\n{text}\n</tool_call>" for text in objects),
        f"[TOOL_CALLS] [{', '.join(objects)}]",
        "".join(f"[TOOL_CALLS]{call.name}[ARGS]{json.dumps(call.arguments)}" for call in made),
        "; ".join(objects),
    ]
    if not any("<tool_call>" in text or "[TOOL_CALLS]" in text for text in objects):
        assert [parse_answer(form, TOOLS) for form in forms] == [Answer("", "", tuple(made))] * 4
    assert read_calls_text(calls_text(made)) == tuple(made)


@given(st.text('<>[]{}/|":, tool_callTHINK\n') | st.text())
def test_no_text_fails(text: str) -> None:
    for start in ("", "<tool_call>", "[TOOL_CALLS]", "<|channel|>", "<think>", '{"name":'):
        answer = parse_answer(start + text, TOOLS)
        assert read_calls_text(calls_text(answer.calls)) == answer.calls


def test_calls_of_data_are_written_in_the_same_form() -> None:
    assert read_calls_text(calls_text([ToolCall("weather", '{"city": "Oslo"}', "1")])) == (OSLO,)


def test_calls_of_a_cell_are_those_of_a_message_of_openai() -> None:
    calls = message_calls(calls_text([OSLO, Call("weather", None, '{"city": ')]))
    assert calls is not None
    read = [ChatCompletionMessageFunctionToolCall.model_validate(call, strict=True) for call in calls]
    assert [call.function.name for call in read] == ["weather", "weather"]
    assert [call.function.arguments for call in read] == ['{"city": "Oslo"}', '{"city": ']
    assert (message_calls("[]"), message_calls(None)) == ([], None)
