"""One conversation written in the forms of several programs reads back as the same turns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kamerton.data.example import DataExample, Message, ToolCall
from kamerton.data.options import Columns
from kamerton.data.read.columns.fields import to_fields
from kamerton.data.read.columns.layout import Layout
from kamerton.data.read.columns.schema import find_layout
from kamerton.data.stored import to_example

Turn = dict[str, Any]
NAMES = ("get_weather", "search.web", "count-mills")
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in NAMES]

letters = st.text("abcdefgh ąż🎉\n", min_size=1, max_size=12)
texts = letters.map(str.strip).filter(bool)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
arguments = st.dictionaries(st.text(max_size=5), values, max_size=3).map(
    lambda value: json.dumps(value, ensure_ascii=False)
)
arguments = arguments.filter(lambda text: not any("\ud800" <= character <= "\udfff" for character in text))
called = st.lists(st.tuples(st.sampled_from(NAMES), arguments), min_size=1, max_size=3)


@st.composite
def conversations(draw: Any) -> tuple[Message, ...]:
    """A conversation that ends with an assistant's turn: an answer, or calls."""
    turns = [Message("system", draw(texts))] if draw(st.booleans()) else []
    count = 0
    for _ in range(draw(st.integers(1, 3))):
        turns.append(Message("user", draw(texts)))
        for _ in range(draw(st.integers(0, 2))):
            calls = []
            for name, text in draw(called):
                calls.append(ToolCall(name, text, f"{count:09d}"))
                count += 1
            reasoning = draw(st.just("") | texts)
            turns.append(Message("assistant", draw(st.just("") | texts), reasoning=reasoning, tool_calls=tuple(calls)))
            turns += [Message("tool", draw(texts), tool_call_id=call.id) for call in calls]
        turns.append(Message("assistant", draw(texts), reasoning=draw(st.just("") | texts)))
    if turns[-2].role == "tool" and draw(st.booleans()):  # ends with calls
        del turns[-1]
        while turns[-1].role == "tool":
            del turns[-1]
    return tuple(turns)


def openai(turn: Message) -> Iterator[Turn]:
    """OpenAI's chat completions."""
    written: Turn = {"role": turn.role, "content": turn.content or None}
    if turn.tool_calls:
        written["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in turn.tool_calls
        ]
    if turn.tool_call_id:
        written["tool_call_id"] = turn.tool_call_id
    yield written | ({"reasoning_content": turn.reasoning} if turn.reasoning else {})


def objects(turn: Message) -> Iterator[Turn]:
    """The same with arguments as objects and reasoning in the content."""
    (written,) = openai(replace(turn, reasoning=""))
    for call in written.get("tool_calls", []):
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    yield written | ({"content": f"<think>\n{turn.reasoning}\n</think>\n\n{turn.content}"} if turn.reasoning else {})


def anthropic(turn: Message) -> Iterator[Turn]:
    """Anthropic's content blocks."""
    if turn.role == "tool":
        part = {"type": "tool_result", "tool_use_id": turn.tool_call_id, "content": turn.content}
        yield {"role": "user", "content": [part]}
        return
    parts: list[Turn] = [{"type": "thinking", "thinking": turn.reasoning}] if turn.reasoning else []
    parts += [{"type": "text", "text": turn.content}] if turn.content else []
    for call in turn.tool_calls:
        parts.append({"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments)})
    yield {"role": turn.role, "content": parts}


def responses(turn: Message) -> Iterator[Turn]:
    """Items of OpenAI's responses."""
    if turn.role == "tool":
        yield {"type": "function_call_output", "call_id": turn.tool_call_id, "output": turn.content}
        return
    if turn.reasoning:
        yield {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": turn.reasoning}]}
    if turn.content:
        kind = "output_text" if turn.role == "assistant" else "input_text"
        yield {"type": "message", "role": turn.role, "content": [{"type": kind, "text": turn.content}]}
    for call in turn.tool_calls:
        yield {"type": "function_call", "id": "fc", "call_id": call.id, "name": call.name, "arguments": call.arguments}


def langchain(turn: Message) -> Iterator[Turn]:
    """LangChain's messages."""
    kind = {"user": "human", "assistant": "ai"}.get(turn.role, turn.role)
    data: Turn = {"content": turn.content, "additional_kwargs": {}}
    if turn.reasoning:
        data["content"] = [{"type": "reasoning", "reasoning": turn.reasoning}, {"type": "text", "text": turn.content}]
    if turn.tool_calls:
        data["tool_calls"] = [
            {"name": call.name, "args": json.loads(call.arguments), "id": call.id, "type": "tool_call"}
            for call in turn.tool_calls
        ]
    if turn.tool_call_id:
        data["tool_call_id"] = turn.tool_call_id
    yield {"type": kind, "data": data}


def mistral(turn: Message) -> Iterator[Turn]:
    """Texts of Mistral's templates."""
    if turn.role == "tool":
        result = json.dumps({"content": turn.content, "call_id": turn.tool_call_id})
        yield {"role": "tool", "content": f"[TOOL_RESULTS] {result}[/TOOL_RESULTS]"}
        return
    calls = [{"name": c.name, "arguments": json.loads(c.arguments), "id": c.id} for c in turn.tool_calls]
    think = f"<think>{turn.reasoning}</think>" if turn.reasoning else ""
    yield {
        "role": turn.role,
        "content": f"{think}{turn.content}" + (f"[TOOL_CALLS] {json.dumps(calls)}" if calls else ""),
    }


def hermes(turn: Message) -> Iterator[Turn]:
    """Texts of the templates of Hermes and Qwen, which have no ids."""
    if turn.role == "tool":
        yield {"role": "user", "content": f"<tool_response>\n{turn.content}\n</tool_response>"}
        return
    blocks = [
        f'<tool_call>\n{{"name": {json.dumps(call.name)}, "arguments": {call.arguments}}}\n</tool_call>'
        for call in turn.tool_calls
    ]
    think = [f"<think>\n{turn.reasoning}\n</think>\n"] if turn.reasoning else []
    yield {"role": turn.role, "content": "\n".join([*think, *([turn.content] if turn.content else []), *blocks])}


def llama(turn: Message) -> Iterator[Turn]:
    """Texts of Llama 3's templates, which have no ids; content beside calls does not occur there."""
    if not turn.tool_calls or turn.content:
        yield from openai(without_ids(turn))
        return
    objects = [f'{{"name": {json.dumps(call.name)}, "parameters": {call.arguments}}}' for call in turn.tool_calls]
    think = f"<think>{turn.reasoning}</think>" if turn.reasoning else ""
    tag = "<|python_tag|>" if len(objects) > 1 else ""
    yield {"role": "assistant", "content": think + tag + "; ".join(objects)}


def sharegpt(turn: Message) -> Iterator[Turn]:
    """ShareGPT's turns, which have no ids."""
    role = {"user": "human", "assistant": "gpt", "tool": "observation"}.get(turn.role, turn.role)
    think = f"<think>{turn.reasoning}</think>" if turn.reasoning else ""
    if turn.content:
        yield {"from": role, "value": think + turn.content}
        think = ""
    for call in turn.tool_calls:
        yield {
            "from": "function_call",
            "value": f'{think}{{"name": {json.dumps(call.name)}, "arguments": {call.arguments}}}',
        }
        think = ""


def legacy(turn: Message) -> Iterator[Turn]:
    """OpenAI's `function_call`, where a turn has one call."""
    if len(turn.tool_calls) == 1:
        call = turn.tool_calls[0]
        written = {"role": "assistant", "content": turn.content, "reasoning": turn.reasoning}
        yield written | {"function_call": {"name": call.name, "arguments": call.arguments}}
    elif turn.role == "tool":
        yield {"role": "function", "content": turn.content}
    else:
        yield from openai(without_ids(turn))


def without_ids(turn: Message) -> Message:
    return replace(turn, tool_call_id=None, tool_calls=tuple(replace(call, id=None) for call in turn.tool_calls))


WRITERS: dict[str, tuple[Callable[[Message], Iterator[Turn]], bool]] = {  # and whether the form has ids
    "openai": (openai, True),
    "objects": (objects, True),
    "anthropic": (anthropic, True),
    "responses": (responses, True),
    "langchain": (langchain, True),
    "mistral": (mistral, True),
    "hermes": (hermes, False),
    "llama": (llama, False),
    "sharegpt": (sharegpt, False),
    "legacy": (legacy, False),
}


def read(turns: list[Turn]) -> DataExample:
    record = {"messages": turns, "tools": TOOLS}
    layout = find_layout(record, Columns())
    assert isinstance(layout, Layout)
    fields, faults = to_fields(record, layout, lambda code: "error")
    assert fields is not None, faults
    assert not faults
    return to_example(fields.prompt, fields.chat, fields.completion, None, fields.extras)


@pytest.mark.parametrize("form", WRITERS)
def test_a_conversation_reads_back_equal_from_every_form(form: str) -> None:
    write, has_ids = WRITERS[form]

    @settings(deadline=None, max_examples=60, database=None)
    @given(conversations())
    def check(turns: tuple[Message, ...]) -> None:
        example = read([written for turn in turns for written in write(turn)])
        assert example.messages == tuple(turn if has_ids else without_ids(turn) for turn in turns)

    check()
