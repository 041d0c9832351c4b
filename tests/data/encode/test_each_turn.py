"""Conversations with functions turn by turn: the rows that a scores table has of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kamerton.data.encode.arrays import Encoded, encode
from kamerton.data.encode.each_turn import each_turn, encode_each_turn, has_functions
from kamerton.data.encode.targets import Targets
from kamerton.data.encode.tokenize import StretchTokenizer
from kamerton.data.example import DataExample, Message, ToolCall
from support.rows import stored
from support.templates import tokenizer

TOOLS = json.dumps([{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}])
CALL = (ToolCall("weather", '{"city": "Oslo"}', "a"),)
CHAT = DataExample(
    (
        Message("user", "Weather?"),
        Message("assistant", "", tool_calls=CALL),
        Message("tool", "rain", tool_call_id="a"),
        Message("assistant", "Rain."),
        Message("user", "And now?"),
        Message("assistant", "", 0.0, tool_calls=CALL),
        Message("tool", "sun", tool_call_id="a"),
    ),
    "Sun.",
    tools=TOOLS,
)
PLAIN = DataExample((Message("user", "Hi"), Message("assistant", "Ho"), Message("user", "Hey")), "He")
ALONE = DataExample("Weather?", "", tool_calls=CALL)


def encoded(examples: list[DataExample], template: str, tmp_path: Path, targets: Targets, **more: Any) -> Encoded:
    options: dict[str, Any] = {"max_length": 2000, "overlong": "error", **more}
    return encode(
        stored(examples, tmp_path / "rows"),
        tokenizer(template),
        cache=tmp_path / "cache",
        name="test",
        targets=targets,
        **options,
    )


@pytest.mark.parametrize("template", ["chatml", "qwen25", "qwen3", "channels"])
def test_each_trained_turn_is_a_row_whatever_the_template(template: str, tmp_path: Path) -> None:
    data = encoded([CHAT, PLAIN, ALONE], template, tmp_path, Targets())
    stretches = StretchTokenizer(data_tokenizer := tokenizer(template), data.control_tokens, data.trained)
    divided = encode_each_turn(data, stretches)
    rows = list(divided.examples)
    expected = [("", True), ("Rain.", False), ("Sun.", False)]
    assert [(row.completion, bool(row.tool_calls)) for row in rows if row.tools] == expected
    whole = set(divided.ids.to_pylist())
    assert {CHAT.id, PLAIN.id, ALONE.id} <= whole
    assert len(whole) == len(rows)
    for i, row in enumerate(rows):
        if row.tools:  # the turn alone is the target, after what is read at inference
            start = int(divided.targets(i).nonzero()[0][0])
            assert divided.tokens(i)[:start].tolist() == stretches.prompt_of(row)
            assert divided.targets(i)[start:].all()
            assert row.completion in data_tokenizer.decode(divided.tokens(i)[start:])
    assert divided.target_counts.tolist() == [int(divided.targets(i).sum()) for i in range(len(divided))]
    same = each_turn(stored([CHAT, PLAIN, ALONE], tmp_path / "other"), Targets())
    assert [row for row in same if row.tools] == [row for row in rows if row.tools]
    assert set(same.ids.to_pylist()) <= whole


def test_only_trained_turns_are_rows(tmp_path: Path) -> None:
    data = encoded([CHAT], "qwen25", tmp_path, Targets(train_on="calls"))
    divided = encode_each_turn(data, StretchTokenizer(tokenizer("qwen25"), data.control_tokens, data.trained))
    assert [bool(row.tool_calls) for row in divided.examples] == [True]


def test_data_without_functions_are_unchanged(tmp_path: Path) -> None:
    data = encoded([PLAIN, DataExample("Hi", "Ho")], "qwen25", tmp_path, Targets())
    assert not has_functions(data.examples)
    assert encode_each_turn(data, StretchTokenizer(tokenizer("qwen25"))) is data
    assert each_turn(data.examples, Targets()) is data.examples


def test_a_truncated_conversation_is_one_row(tmp_path: Path) -> None:
    full = encoded([CHAT], "qwen25", tmp_path, Targets())
    limits = {"max_length": int(full.lengths[0]) - 3, "overlong": "truncate"}
    cut = encoded([CHAT], "qwen25", tmp_path, Targets(), **limits)
    divided = encode_each_turn(cut, StretchTokenizer(tokenizer("qwen25"), cut.control_tokens, cut.trained))
    assert divided.lengths.tolist() == cut.lengths.tolist()


def test_calls_are_found_in_earlier_turns_but_not_in_texts(tmp_path: Path) -> None:
    early = DataExample(CHAT.prompt, "Sun.")
    text = DataExample('a "tool_calls":[ in a text', 'and "tools": here')
    chat = DataExample((Message("user", '"tool_calls":['),), "no")
    assert has_functions(stored([text, early], tmp_path / "a"))
    assert not has_functions(stored([text, chat], tmp_path / "b"))
