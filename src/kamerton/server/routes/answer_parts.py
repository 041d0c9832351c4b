"""The parts of an answer: reasoning, content and calls, of a complete text and while it is generated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from kamerton.data.read.conversations.call_text import MISTRAL, PYTHON
from kamerton.data.read.conversations.calls import write_json
from kamerton.score.calls import MARKED_TOKENS, parse_answer

_CALL_TAGS = ("<tool_call>", MISTRAL, PYTHON)


@dataclass(frozen=True, slots=True)
class Reading:
    """How answers to a request are read.

    Args:
        tools: JSON of the functions that may be called; "" without any.
        calls: whether calls are read; otherwise they are content.
        parallel: whether an answer may have several calls; otherwise only the first is kept.
    """

    tools: str = ""
    calls: bool = False
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of an answer; `calls` are those of a message in OpenAI's format."""

    reasoning: str
    content: str
    calls: tuple[Mapping[str, Any], ...] = ()


def read_parts(text: str, reading: Reading, *, thinking: bool) -> Parts:
    """Return the parts of a generated text. `thinking`: the prompt ends with an open `<think>`.

    The text of an invalid call (broken JSON) is content. If calls are read, content has no spaces around it.
    """
    answer = parse_answer(text, reading.tools, thinking=thinking, calls=reading.calls)
    if not reading.calls:
        return Parts(answer.reasoning, answer.content)
    valid = [call for call in answer.calls if call.arguments is not None]
    invalid = [call.invalid or call.name for call in answer.calls if call.arguments is None]
    content = "\n".join(part for part in (answer.content.strip(), *invalid) if part)
    calls = tuple(
        {
            "id": f"call_{uuid4().hex[:24]}",
            "type": "function",
            "function": {"name": call.name, "arguments": write_json(call.arguments)},
        }
        for call in (valid if reading.parallel else valid[:1])
    )
    return Parts(answer.reasoning, content, calls)


@dataclass(slots=True)
class PartsStream:
    """The deltas of an answer while it is generated: reasoning and content at once, calls when the answer ends.

    Emitted deltas are final. Held back are spaces at the end, an ending that may become a tag, and everything from a
    call on (or from a beginning that may be one).
    """

    reading: Reading
    thinking: bool
    text: str = ""
    reasoning: str = ""
    content: str = ""
    holds: bool = False

    def add(self, piece: str) -> list[dict[str, Any]]:
        """Add generated text and return the deltas that became final."""
        self.text += piece
        self.holds = self.holds or (self.reading.calls and self._has_call())
        if self.holds or not piece:
            return []
        # Calls are excluded, so that only reasoning is parsed.
        answer = parse_answer(_without_open_tag(self.text).rstrip(), thinking=self.thinking, calls=False)
        content = answer.content.lstrip() if self.reading.calls else answer.content
        if self.reading.calls and content[:1] in ("{", "["):
            content = ""
        return self._deltas(answer.reasoning.rstrip(), content.rstrip())

    def finish(self) -> tuple[list[dict[str, Any]], bool]:
        """Return the remaining deltas, and whether the answer has calls."""
        parts = read_parts(self.text, self.reading, thinking=self.thinking)
        deltas = self._deltas(parts.reasoning, parts.content)
        if not (parts.content.startswith(self.content) and parts.reasoning.startswith(self.reasoning)):
            # A closing tag of reasoning that was not opened: what was sent as content stays content.
            rest = self.text.lstrip() if self.reading.calls else self.text
            deltas = [{"content": rest.removeprefix(self.content)}]
            return deltas, False
        calls = [{"tool_calls": [{"index": i, **call}]} for i, call in enumerate(parts.calls)]
        return [*deltas, *calls], bool(calls)

    def _has_call(self) -> bool:
        if "<|channel|>" in self.text:
            return "to=" in self.text
        return any(tag in self.text for tag in _CALL_TAGS)

    def _deltas(self, reasoning: str, content: str) -> list[dict[str, Any]]:
        """Return what reasoning and content have beyond what was emitted; nothing if they no longer begin with it."""
        if not (reasoning.startswith(self.reasoning) and content.startswith(self.content)):
            return []
        parts = {"reasoning_content": reasoning[len(self.reasoning) :], "content": content[len(self.content) :]}
        self.reasoning, self.content = reasoning, content
        return [{name: text} for name, text in parts.items() if text]


def _without_open_tag(text: str) -> str:
    """Return a text without an ending that may become a tag."""
    held = (size for tag in MARKED_TOKENS for size in range(1, len(tag)) if text.endswith(tag[:size]))
    return text[: len(text) - max(held, default=0)]
