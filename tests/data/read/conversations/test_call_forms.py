"""Calls of DeepSeek, GLM, Qwen Coder and in Python read back as they were written; nothing is executed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamerton.data.options import SplitOptions
from kamerton.data.read.conversations.call_forms import python_calls
from kamerton.data.read.conversations.call_text import split_calls

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r<｜▁`"), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,7}", fullmatch=True).filter(lambda name: name not in PYTHON)
PYTHON = {"is", "in", "if", "or", "as", "and", "not", "for", "def", "del", "try", "from", "with", "pass", "else"}
PYTHON |= {"elif", "True", "None", "class", "break", "raise", "while", "yield", "async", "await", "import"}
PYTHON |= {"except", "finally", "global", "lambda", "return", "assert"}
CALLS = st.lists(st.tuples(NAMES, st.dictionaries(NAMES, VALUES, min_size=1, max_size=3)), min_size=1, max_size=3)


def deepseek(calls: list[tuple[str, dict[str, Any]]]) -> str:
    blocks = [
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{json.dumps(arguments)}\n```<｜tool▁call▁end｜>"
        for name, arguments in calls
    ]
    return f"<｜tool▁calls▁begin｜>{''.join(blocks)}<｜tool▁calls▁end｜><｜end▁of▁sentence｜>"


def deepseek31(calls: list[tuple[str, dict[str, Any]]]) -> str:
    blocks = [f"<｜tool▁call▁begin｜>{n}<｜tool▁sep｜>{json.dumps(a)}<｜tool▁call▁end｜>" for n, a in calls]
    return f"<｜tool▁calls▁begin｜>{''.join(blocks)}<｜tool▁calls▁end｜>"


def python(calls: list[tuple[str, dict[str, Any]]]) -> str:
    texts = [
        f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})" for name, arguments in calls
    ]
    return f"[{', '.join(texts)}]"


def hermes(calls: list[tuple[str, dict[str, Any]]]) -> str:
    return "".join(
        f"<tool_call>\n{ {'arguments': arguments, 'name': name} }\n</tool_call>" for name, arguments in calls
    )


@pytest.mark.slow
@given(CALLS)
@pytest.mark.parametrize("write", [deepseek, deepseek31, python, hermes])
def test_calls_read_back_as_they_were_written(write: Any, calls: list[tuple[str, dict[str, Any]]]) -> None:
    content, read, faults = split_calls(write(calls), "messages[1]", "[]")
    assert (content, faults) == ("", [])
    assert [(call.name, json.loads(call.arguments)) for call, _ in read] == calls


def glm(key: str, value: str) -> str:
    return f"<tool_call>count\n<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n</tool_call>"


def coder(key: str, value: str) -> str:
    return f"<tool_call>\n<function=count>\n<parameter={key}>\n{value}\n</parameter>\n</function>\n</tool_call>"


@pytest.mark.parametrize("write", [glm, coder])
@pytest.mark.parametrize(("kind", "expected"), [("string", "5"), ("integer", 5), (None, 5)])
def test_arguments_in_tags_have_the_types_of_the_schema(write: Any, kind: str | None, expected: object) -> None:
    parameters = {"type": "object", "properties": {"n": {"type": kind} if kind else {}}}
    tools = json.dumps([{"type": "function", "function": {"name": "count", "parameters": parameters}}])
    content, ((call, _),), faults = split_calls(f"I count.\n{write('n', '5')}", "messages[1]", tools)
    assert (content, faults) == ("I count.", [])
    assert (call.name, json.loads(call.arguments)) == ("count", {"n": expected})


def test_names_with_spaces_and_constants_of_json_are_read() -> None:
    assert python_calls('[Market Trends(country="us", live=true, limit=null), sites.list(n=-1)]') == [
        {"name": "Market Trends", "arguments": {"country": "us", "live": True, "limit": None}},
        {"name": "sites.list", "arguments": {"n": -1}},
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[count(__import__('os').system('x'))]",
        "[count(n=open('x'))]",
        "[count(n=1), see also (p. 3)]",
        "[count(n=[1]*9**9)]",
        "[see (Smith 2020)]",
        "[f(**{'a': 1})]",
        f"[f(a={'[' * 99}{']' * 99})]",
        "[1, 2]",
        "",
    ],
)
def test_other_texts_are_no_calls(text: str) -> None:
    assert python_calls(text) == []


LISTED = 'Use the functions [{"name": "count", "parameters": {"type": "dict"}}].'
CALL = {"role": "assistant", "content": '[count(town="Oslo")]'}
USER = {"role": "user", "content": "How many?"}


@pytest.mark.parametrize(
    ("row", "calls"),
    [
        ({"messages": [USER, CALL]}, 0),
        ({"messages": [{"role": "system", "content": LISTED}, USER, CALL]}, 1),
        ({"system": LISTED, "messages": [USER, CALL]}, 1),
        ({"system": "Write Python.", "messages": [USER, CALL]}, 0),
    ],
)
def test_python_is_a_call_if_the_row_lists_functions(gate: Any, row: dict[str, Any], calls: int) -> None:
    (example,) = gate([row], SplitOptions(ratios=[1, 0, 0])).splits["train"]
    assert len(example.tool_calls) == calls
    assert bool(example.completion) is not bool(calls)


def test_python_before_a_result_is_a_call(gate: Any) -> None:
    turns = [USER, CALL, {"role": "tool", "content": "3"}, {"role": "assistant", "content": "Three."}]
    (example,) = gate([{"messages": turns}], SplitOptions(ratios=[1, 0, 0])).splits["train"]
    assert [call.arguments for call in example.prompt[1].tool_calls] == ['{"town": "Oslo"}']


def test_a_call_without_arguments_needs_functions() -> None:
    assert split_calls("[refresh()]", "messages[1]", "")[1] == []
    tools = '[{"type": "function", "function": {"name": "refresh"}}]'
    assert [call.name for call, _ in split_calls("[refresh()]", "messages[1]", tools)[1]] == ["refresh"]


@pytest.mark.parametrize(
    "text", [deepseek([("f", {"a": 1})]) + "and more", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f"]
)
def test_half_a_call_and_text_behind_one_are_faults(text: str) -> None:
    assert [fault.code for fault in split_calls(text, "messages[1]", "")[2]] == ["bad-messages"]


def test_many_calls_without_an_end_are_one_fault() -> None:  # searching for each end reads the text once for each
    content, calls, (fault,) = split_calls("<tool_call>" * 100_000, "p", "[]")
    assert (content, calls, fault.code) == ("", [], "bad-messages")


def test_a_system_turn_that_asks_for_calls_in_python_is_counted_and_can_be_mended(gate: Any) -> None:
    about = 'You may call: [{"name": "count", "parameters": {}}].'
    demand = "Should you decide to return the function call(s). Put it in the format of [func1(params_name=value)]"
    turns = [("user", "How many?"), ("assistant", "[count(n=3)]")]
    conversation = [{"from": role, "value": text} for role, text in turns]
    rows = [{"system": f"{about} \n{demand}\nBe brief.", "conversations": conversation}]
    for action, system in (("warn", f"{about} \n{demand}\nBe brief."), ("fix", f"{about} \nBe brief.")):
        prepared = gate(rows, SplitOptions(ratios=[1, 0, 0]), policy={"call-form": action})
        (example,) = prepared.splits["train"]
        assert example.prompt[0].content == system
        assert [call.name for call in example.tool_calls] == ["count"]
        assert "call-form" in [fault["code"] for fault in prepared.report["warnings"]]
        assert prepared.report["fixed"].get("call-form", 0) == (action == "fix")
    without = [{**rows[0], "conversations": [conversation[0], {"from": "assistant", "value": "Three."}]}]
    assert "call-form" not in str(gate(without, SplitOptions(ratios=[1, 0, 0])).report["warnings"])
