"""Each trained turn is what inference reads and writes, in every family of chat templates."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kamerton.data.encode.forms import chat_form, with_fallback
from kamerton.data.encode.tokenize import StretchTokenizer
from kamerton.data.example import DataExample, Message, ToolCall
from support.templates import TEMPLATES, tokenizer

TOOLS = json.dumps(
    [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": "Ask",
                "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
            },
        }
        for name in ("weather", "time_in")
    ]
)
words = st.sampled_from(["yes", "no.", "a b", "é?", "x\n\ny", "{1}", "<b>", "20°", "Ja!", "<|im_end|>", "</s>"])
texts = st.lists(words, min_size=1, max_size=4).map(" ".join)
arguments = st.dictionaries(st.sampled_from(["place", "day"]), texts | st.integers(), max_size=2).map(json.dumps)
calls = st.lists(
    st.builds(ToolCall, st.sampled_from(["weather", "time_in"]), arguments, st.sampled_from(["call_1", "abcdefgh1"])),
    max_size=2,
).map(tuple)


@st.composite
def conversations(draw: Any) -> DataExample:
    """A conversation of one to three questions, each answered after any calls and their results."""
    turns: list[Message] = [Message("system", draw(texts))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        turns.append(Message("user", draw(texts)))
        weight = st.sampled_from([0.0, 1.0, 1.0, 0.5])
        thought = st.just("") | texts
        if chosen := draw(calls):
            content = draw(st.just("") | texts)
            turns.append(Message("assistant", content, draw(weight), draw(thought), chosen))
            turns += [Message("tool", draw(texts), 1.0, "", (), call.id, call.name) for call in chosen]
        turns.append(Message("assistant", draw(texts), draw(weight), draw(thought)))
    last = turns.pop()
    tools = TOOLS if any(turn.tool_calls for turn in turns) or draw(st.booleans()) else ""
    return DataExample(tuple(turns), last.content, {}, last.reasoning, (), tools, last.weight or 1.0)


def hugging_face(turns: tuple[Message, ...]) -> list[dict[str, Any]]:
    """The turns as users of transformers write them."""
    result = []
    for turn in turns:
        values: dict[str, Any] = {"role": turn.role, "content": turn.content}
        if turn.tool_calls:
            values["tool_calls"] = [
                {
                    "type": "function",
                    "id": call.id,
                    "function": {"name": call.name, "arguments": json.loads(call.arguments)},
                }
                for call in turn.tool_calls
            ]
        if turn.reasoning:
            values["reasoning_content"] = turn.reasoning
        if turn.tool_call_id:
            values["tool_call_id"] = turn.tool_call_id
        if turn.name:
            values["name"] = turn.name
        result.append(values)
    return result


def sequences(stretches: StretchTokenizer, example: DataExample) -> list[tuple[int, list[int], list[bool]]]:
    """The turn with which each sequence of an example ends, its tokens and its targets."""
    chunk = stretches.encode([example])
    assert not chunk.failed, chunk.failed
    assert chunk.sizes.tolist() == [len(chunk.lengths)]
    cuts = np.cumsum(chunk.lengths)[:-1]
    parts = zip(np.split(chunk.tokens, cuts), np.split(chunk.targets, cuts), strict=True)
    return [
        (int(end), tokens.tolist(), targets.tolist()) for end, (tokens, targets) in zip(chunk.ends, parts, strict=True)
    ]


def trained(example: DataExample) -> list[int]:
    return [k for k, turn in enumerate(example.messages) if turn.role == "assistant" and turn.weight > 0]


def refuses(name: str, example: DataExample) -> bool:
    """Whether the template's own rules forbid the conversation."""
    turns = example.messages
    if name == "channels":
        return any(len(turn.tool_calls) == 1 and turn.content and turn.reasoning for turn in turns)
    return name == "gemma" and turns[0].role == "system"


@pytest.fixture(scope="module")
def made() -> dict[str, tuple[Any, StretchTokenizer]]:
    return {name: (made := tokenizer(name), StretchTokenizer(made)) for name in TEMPLATES}


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=60, deadline=None)
@given(conversations())
def test_each_trained_turn_follows_the_prompt_of_inference(made: Any, name: str, example: DataExample) -> None:
    if refuses(name, example):
        return
    model, stretches = made[name]
    saved = with_fallback(model)  # as exported
    turns, tools = example.messages, json.loads(example.tools) if example.tools else None
    as_text = bool(stretches.encode([example]).literals)  # a control token's string, which transformers parses
    parts = sequences(stretches, example)
    assert (len(parts) == 1) or [end or len(turns) - 1 for end, _, _ in parts] == trained(example)
    for number, k in enumerate(trained(example)):
        _, tokens, targets = parts[min(number, len(parts) - 1)]
        if not as_text and not chat_form(model).short_ids:  # ids of other forms are shortened
            prompt = saved.apply_chat_template(
                hugging_face(turns[:k]), tools=tools, add_generation_prompt=True, return_dict=False
            )
            assert tokens[: len(prompt)] == prompt
        prompt = stretches.prompt_of(DataExample(turns[:k], "", tools=example.tools))
        assert tokens[: len(prompt)] == prompt
        assert targets[len(prompt)]
        ends = next((i for i in range(len(prompt), len(targets)) if not targets[i]), len(targets))
        text = model.decode(tokens[len(prompt) : ends])
        assert turns[k].content.strip() in text
        assert turns[k].reasoning.strip() in text
        for call in turns[k].tool_calls:
            assert call.name in text
            assert json.dumps(json.loads(call.arguments), ensure_ascii=False) in text
    count = sum(
        bool(now and not before)
        for _, _, targets in parts
        for before, now in zip([False, *targets], targets, strict=False)
    )
    assert count == len(trained(example))


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=30, deadline=None)
@given(conversations())
def test_the_exported_template_needs_no_fallback_and_writes_plain_chats_alike(
    made: Any, name: str, example: DataExample
) -> None:
    model, _ = made[name]
    saved = with_fallback(model)
    assert chat_form(saved).missing in ((), ("reasoning",), ("text beside calls",))
    plain = [{"role": turn.role, "content": turn.content} for turn in example.messages if turn.role != "tool"]
    plain = [turn for turn in plain if turn["content"]]
    try:
        expected = model.apply_chat_template(plain, tokenize=False)
    except Exception as error:
        with pytest.raises(type(error)):
            saved.apply_chat_template(plain, tokenize=False)
        return
    assert saved.apply_chat_template(plain, tokenize=False) == expected


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_developer_turn_is_a_system_turn_unless_the_template_knows_the_role(made: Any, name: str) -> None:
    model, stretches = made[name]

    def prompt(role: str) -> str:
        turns = (Message(role, "Be brief."), Message("user", "Why?"))
        return str(model.decode(stretches.prompt(turns, "")))

    if name in ("channels", "gemma"):  # `channels` knows the role, `gemma` takes no system turn
        with pytest.raises(Exception, match="alternate") if name == "gemma" else nullcontext():
            assert "developer<|message|>Be brief." in prompt("developer")
        return
    assert prompt("developer") == prompt("system")
    turns = (Message("developer", "Be brief."), Message("user", "Why?", 1.0))
    chunk = stretches.encode([DataExample(turns, "So.")])
    assert list(chunk.fallbacks) == ["developer turns (as system turns)"]
    saved = [{"role": turn.role, "content": turn.content} for turn in turns]
    text = with_fallback(model).apply_chat_template(saved, tokenize=False, add_generation_prompt=True)
    assert model.encode(text, add_special_tokens=False) == stretches.prompt(turns, "")
