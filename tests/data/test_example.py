"""Examples with calls, reasoning and tools: stored and read back, and their ids."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kamerton.data.example import DataExample, Message, ToolCall
from kamerton.data.stored import row_id, stored_extras, stored_prompt, to_example

CALL = ToolCall("get_weather", '{"city": "Oslo"}', "call_1")
TURNS = (
    Message("user", "What is the weather in Oslo?"),
    Message("assistant", "", 1.0, "I need the weather.", (CALL,)),
    Message("tool", "4 degrees", tool_call_id="call_1", name="get_weather"),
)


def test_calls_and_reasoning_survive_the_store() -> None:
    example = DataExample(TURNS, "4 degrees.", {}, "It is cold.", (CALL,), '[{"name": "get_weather"}]', 0.5)
    extras = stored_extras(example.reasoning, example.tool_calls, example.tools, example.weight)
    stored = to_example(stored_prompt(example.prompt), True, example.completion, None, extras)
    assert stored == example
    assert row_id(stored_prompt(example.prompt), True, example.completion, extras) == int(example.id, 16)


@pytest.mark.parametrize(
    "change",
    [{"reasoning": "other"}, {"tool_calls": ()}, {"tools": ""}, {"weight": 1.0}, {"prompt": TURNS[:1]}],
    ids=lambda change: next(iter(change)),
)
def test_every_field_that_the_model_sees_is_part_of_the_id(change: dict[str, Any]) -> None:
    example = DataExample(TURNS, "4 degrees.", {}, "It is cold.", (CALL,), '[{"name": "get_weather"}]', 0.5)
    assert replace(example, **change).id != example.id
