"""Parts of answers: a stream's deltas are together the parts of the whole text, however it is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kamerton.server.routes.answer_parts import PartsStream, Reading, read_parts

TOOLS = json.dumps([{"type": "function", "function": {"name": name}} for name in ("f", "g")])
CALL = '{"name": "f", "arguments": {"a": "<b>"}}'
HERMES = f"<tool_call>\n{CALL}\n</tool_call>"
MESSAGE = "<|channel|>{}<|message|>{}"
HM = MESSAGE.format("analysis", "hm")
TEXTS = {
    "text": "Hello [1] <b>you</b> \n and 2 < 3 ",
    "hermes": f"\n\nLooking.\n{HERMES}\n{HERMES}",
    "reasoning": f"<think>\na < b\n\nc\n</think>\n\nLooking.\n\n{HERMES}",
    "reasoning alone": "<think>\nstill at it",
    "empty reasoning": "<think>\n\n</think>\n\nYes.",
    "mistral": f"Well. [TOOL_CALLS][{CALL}]",
    "mistral, named": '[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[ARGS]{}',
    "llama": f"<|python_tag|>{CALL}",
    "bare": '{"name": "f", "parameters": {"a": 1}}',
    "json that is no call": '{"answer": 42}',
    "broken": '<tool_call>\n{"name": "f", "arguments": {"a": }\n</tool_call>',
    "magistral": f"[THINK]hm[/THINK]Yes.[TOOL_CALLS][{CALL}]",
    "channels": (
        f"{HM}<|end|><|start|>assistant" + MESSAGE.format("commentary to=functions.f <|constrain|>json", '{"a": 1}')
    ),
    "channels, no call": MESSAGE.format("analysis", "hm")
    + "<|end|><|start|>assistant"
    + MESSAGE.format("final", "Yes."),
    "reasoning without its beginning": "hm</think>Yes.",
}


def streamed(text: str, size: int, reading: Reading, thinking: bool) -> tuple[str, str, list[Any], bool]:
    """Reasoning, content and calls of the deltas of a text that comes in pieces of `size` characters."""
    stream = PartsStream(reading, thinking)
    deltas = [delta for at in range(0, len(text), size) for delta in stream.add(text[at : at + size])]
    more, has_calls = stream.finish()
    deltas += more
    reasoning, content = ("".join(d.get(name, "") for d in deltas) for name in ("reasoning_content", "content"))
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    return reasoning, content, calls, has_calls


@pytest.mark.parametrize("reading", [Reading(), Reading(TOOLS, calls=True)], ids=["no tools", "tools"])
@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("name", TEXTS)
def test_deltas_are_together_the_parts_of_the_text(name: str, size: int, reading: Reading) -> None:
    if name == "reasoning without its beginning":
        pytest.skip("its own test")
    whole = read_parts(TEXTS[name], reading, thinking=False)
    reasoning, content, calls, has_calls = streamed(TEXTS[name], size, reading, thinking=False)
    assert (reasoning, content) == (whole.reasoning, whole.content)
    assert [call["function"] for call in calls] == [call["function"] for call in whole.calls]
    assert [call["index"] for call in calls] == list(range(len(calls)))
    assert has_calls == bool(whole.calls)


def test_calls_are_read_from_every_form() -> None:
    for name in ("hermes", "reasoning", "mistral", "mistral, named", "llama", "bare", "magistral", "channels"):
        assert read_parts(TEXTS[name], Reading(TOOLS, calls=True), thinking=False).calls[0]["function"]["name"] == "f"
        assert not read_parts(TEXTS[name], Reading(), thinking=False).calls


@pytest.mark.parametrize("size", [1, 1000])
def test_a_prompt_that_opens_the_reasoning_is_continued(size: int) -> None:
    text = f"a < b\n</think>\n\nLooking.\n{HERMES}"
    reasoning, content, calls, _ = streamed(text, size, Reading(TOOLS, calls=True), thinking=True)
    assert (reasoning, content, len(calls)) == ("a < b", "Looking.", 1)


def test_reasoning_and_content_are_streamed_before_the_end() -> None:
    stream = PartsStream(Reading(TOOLS, calls=True), thinking=False)
    assert stream.add("<think>\nfirst ") == [{"reasoning_content": "first"}]
    assert stream.add("second</think>\n\nSo <") == [{"reasoning_content": " second"}, {"content": "So"}]
    assert stream.add("b> it") == [{"content": " <b> it"}]


def test_a_broken_call_is_content() -> None:
    parts = read_parts(TEXTS["broken"], Reading(TOOLS, calls=True), thinking=False)
    assert not parts.calls
    assert '"arguments": {"a": }' in parts.content


def test_without_parallel_calls_the_first_is_kept() -> None:
    assert len(read_parts(TEXTS["hermes"], Reading(TOOLS, calls=True), thinking=False).calls) == 2
    assert len(read_parts(TEXTS["hermes"], Reading(TOOLS, calls=True, parallel=False), thinking=False).calls) == 1


def test_a_stream_loses_nothing_of_reasoning_without_its_beginning() -> None:
    _, content, _, _ = streamed("hm</think>Yes.", 1, Reading(TOOLS, calls=True), thinking=False)
    assert content == "hm</think>Yes."
