"""One example: the prompt that the model reads, the completion it learns, and metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function by the assistant; `arguments` is the JSON text of an object."""

    name: str
    arguments: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One chat turn.

    Args:
        role: system, developer, user, assistant or tool.
        content: the text; of an assistant's turn the answer without reasoning, "" beside calls alone.
        weight: the weight of an assistant's turn in the loss; with 0 it is context only.
        reasoning: the text that the assistant thought before the answer.
        tool_calls: the calls of an assistant's turn.
        tool_call_id: the id of the call whose result a tool's turn is.
        name: the name of the speaker, or of the function whose result it is.
    """

    role: str
    content: str
    weight: float = 1.0
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    def to_list(self) -> list[Any]:
        """Return plain values for JSON: `[role, content, weight]`, with a dict of the other fields if any is set."""
        more = {
            "reasoning": self.reasoning,
            "tool_calls": [[call.name, call.arguments, call.id] for call in self.tool_calls],
            "tool_call_id": self.tool_call_id,
            "name": self.name,
        }
        more = {key: value for key, value in more.items() if value}
        return [self.role, self.content, self.weight, *([more] if more else [])]

    @classmethod
    def from_list(cls, values: Sequence[Any]) -> Message:
        """Return the turn of `to_list`."""
        role, content, weight = values[:3]
        more = values[3] if len(values) > 3 else {}
        calls = tuple(ToolCall(*call) for call in more.get("tool_calls", ()))
        return cls(role, content, weight, more.get("reasoning", ""), calls, more.get("tool_call_id"), more.get("name"))


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another completion of a prompt, with the score by which it is compared: higher is better."""

    completion: str
    score: float
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()

    def to_list(self) -> list[Any]:
        """Return plain values for JSON."""
        calls = [[call.name, call.arguments, call.id] for call in self.tool_calls]
        return [self.completion, self.score, self.reasoning, calls]

    @classmethod
    def from_list(cls, values: Sequence[Any]) -> Alternative:
        """Return the alternative of `to_list`."""
        completion, score, reasoning, calls = values
        return cls(completion, score, reasoning, tuple(ToolCall(*call) for call in calls))


@dataclass(frozen=True, slots=True)
class DataExample:
    """A prompt and its completion.

    Args:
        prompt: a text (one user turn), or the chat turns before the completion, in which earlier assistant turns with a
            positive weight are trained on as well.
        completion: the text that is trained on; "" if the answer is calls alone, or the row is a prompt alone.
        metadata: further fields by name; copied to the score table.
        reasoning: what the assistant thinks before the completion.
        tool_calls: the calls of the completion's turn.
        tools: JSON of the definitions of functions that may be called, in OpenAI's format; "" without any.
        weight: the weight of the completion in the loss.
        score: of preference data, how good the completion is next to its alternatives; None: no preference is known.
        alternatives: other completions of the same prompt. A pair is a chosen completion with score 1 and a rejected
            alternative with score 0.

    Example:
        >>> from kamerton import DataExample
        >>> example = DataExample("What is the capital of France?", "Paris", {"topic": "geography"})
        >>> [turn.role for turn in example.messages]
        ['user', 'assistant']
        >>> example.id == DataExample("What is the capital of France?", "Paris").id  # a hash of prompt and completion
        True
    """

    prompt: str | tuple[Message, ...]
    completion: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tools: str = ""
    weight: float = 1.0
    score: float | None = None
    alternatives: tuple[Alternative, ...] = ()

    @property
    def messages(self) -> tuple[Message, ...]:
        """All turns of the conversation, the completion last."""
        before = (Message("user", self.prompt),) if isinstance(self.prompt, str) else self.prompt
        return (*before, Message("assistant", self.completion, self.weight, self.reasoning, self.tool_calls))

    @property
    def prompt_text(self) -> str:
        """The prompt as one text, one line per turn of a chat, as reports and scores tables show it."""
        turns = self.prompt
        return turns if isinstance(turns, str) else "\n".join(f"{turn.role}: {turn.content}" for turn in turns)

    @property
    def is_answered(self) -> bool:
        """Whether there is a completion; a row of prompts may have none (`data.rows=prompts`)."""
        return bool(self.completion or self.tool_calls)

    @property
    def id(self) -> str:
        """Content hash of prompt and completion: 16 hex digits, independent of machine and row order."""
        turns: list[Any] = [turn.to_list() for turn in self.messages]
        if self.tools:
            turns.append(self.tools)
        if self.score is not None:
            turns += [self.score, *(alternative.to_list() for alternative in self.alternatives)]
        return hashlib.blake2b(json.dumps(turns).encode(), digest_size=8).hexdigest()


def with_answer(example: DataExample) -> DataExample:
    """Return an example to encode: a prompt alone with a text behind it, since templates may refuse an empty turn."""
    return example if example.is_answered else replace(example, completion=".")


def chat_messages(turns: Sequence[Message]) -> list[dict[str, Any]]:
    """Return turns in the format of OpenAI's chat API, without reasoning, which it does not take.

    Calls and results without an id get one in their order.
    """
    messages: list[dict[str, Any]] = []
    waiting: list[str] = []  # the ids of calls that have no result yet
    for i, turn in enumerate(turns):
        message: dict[str, Any] = {"role": turn.role, "content": turn.content}
        if turn.tool_calls:
            ids = [call.id or f"call_{i}_{k}" for k, call in enumerate(turn.tool_calls)]
            message["content"] = turn.content or None
            message["tool_calls"] = [
                {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call_id, call in zip(ids, turn.tool_calls, strict=True)
            ]
            waiting = ids
        if turn.role == "tool":
            call_id = turn.tool_call_id or (waiting[0] if waiting else "")
            message["tool_call_id"] = call_id
            waiting = [other for other in waiting if other != call_id]
        elif turn.name:
            message["name"] = turn.name
        messages.append(message)
    return messages
