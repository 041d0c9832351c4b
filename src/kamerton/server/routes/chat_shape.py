"""Answers in OpenAI's formats: chat completions and text completions, complete and as chunks of a stream."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from kamerton.server.generation.client import Piece
from kamerton.server.routes.answer_parts import Parts, PartsStream, Reading, read_parts


@dataclass(frozen=True, slots=True)
class Shape:
    """Format of the answers of `model` to one request; id and time are the same in all chunks.

    `reading` is how a chat's answers are read; None for text completions.
    """

    model: str
    reading: Reading | None
    id: str = field(default_factory=lambda: uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def complete(self, answers: Sequence[Piece]) -> dict[str, Any]:
        """Return complete answers."""
        choices = [self._complete_choice(index, answer) for index, answer in enumerate(answers)]
        return self._frame(answers[0], choices, chunk=False) | {"usage": usage(answers)}

    def _complete_choice(self, index: int, answer: Piece) -> dict[str, Any]:
        if self.reading is None:
            return _choice(index, {"text": answer.text}, answer.finish_reason)
        parts = read_parts(answer.text, self.reading, thinking=answer.thinking)
        reason = _finish_reason(answer.finish_reason, has_calls=bool(parts.calls))
        return _choice(index, {"message": _message(parts)}, reason, answer.logprobs)

    def opening(self, index: int, first: Piece) -> dict[str, Any]:
        """Return the first chunk of a choice of a chat, with the role."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return self._frame(first, [_choice(index, {"delta": delta}, None)], chunk=True)

    def usage(self, last: Sequence[Piece]) -> dict[str, Any]:
        """Return the chunk with the numbers of tokens."""
        return self._frame(last[0], [], chunk=True) | {"usage": usage(last)}

    def chunk(self, index: int, piece: Piece, content: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        """Return a chunk of a choice, with the log-probabilities of the piece."""
        return self._frame(piece, [_choice(index, content, reason, piece.logprobs)], chunk=True)

    def _frame(self, piece: Piece, choices: list[dict[str, Any]], *, chunk: bool) -> dict[str, Any]:
        is_chat = self.reading is not None
        kind = ("chat.completion.chunk" if chunk else "chat.completion") if is_chat else "text_completion"
        return {
            "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": piece.fingerprint,
            "choices": choices,
        }


class ChoiceChunks:
    """The chunks of one choice of a stream; `first` is its first piece, which has no text."""

    def __init__(self, shape: Shape, index: int, first: Piece) -> None:
        self._shape, self._index, self.last = shape, index, first
        self._parts = None if shape.reading is None else PartsStream(shape.reading, first.thinking)
        self._logprobs: tuple[dict[str, Any], ...] = ()

    def opening(self) -> list[dict[str, Any]]:
        """Return the first chunk; text completions have none."""
        return [] if self._parts is None else [self._shape.opening(self._index, self.last)]

    def add(self, piece: Piece) -> Iterator[dict[str, Any]]:
        """Yield the chunks of a piece; the last one of an answer ends with the finish reason."""
        self.last, self._logprobs = piece, self._logprobs + piece.logprobs
        has_calls = False
        contents: list[dict[str, Any]]
        if self._parts is None:
            contents = [{"text": piece.text}] if piece.text else []
        else:
            deltas = self._parts.add(piece.text)
            if piece.finish_reason is not None:
                more, has_calls = self._parts.finish()
                deltas += more
            contents = [{"delta": delta} for delta in deltas]
        for content in contents:
            yield self._chunk(content)
        if piece.finish_reason is not None:
            ending: dict[str, Any] = {"text": ""} if self._parts is None else {"delta": {}}
            yield self._chunk(ending, _finish_reason(piece.finish_reason, has_calls=has_calls))

    def _chunk(self, content: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        """Return a chunk with the log-probabilities that no chunk has had yet."""
        piece = replace(self.last, logprobs=self._logprobs)
        self._logprobs = ()
        return self._shape.chunk(self._index, piece, content, reason)


def usage(last: Sequence[Piece]) -> dict[str, int]:
    """Return the token counts of the prompt and of all answers, without the end tokens."""
    prompt, made = last[0].prompt_tokens, sum(piece.tokens for piece in last)
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}


def _finish_reason(reason: str | None, *, has_calls: bool) -> str | None:
    return "tool_calls" if has_calls and reason == "stop" else reason


def _message(parts: Parts) -> dict[str, Any]:
    """Return the message of an answer; fields of reasoning and calls only if it has them."""
    message: dict[str, Any] = {"role": "assistant", "content": parts.content, "refusal": None}
    if parts.reasoning:
        message["reasoning_content"] = parts.reasoning
    if parts.calls:
        message |= {"content": parts.content or None, "tool_calls": list(parts.calls)}
    return message


def _choice(
    index: int, content: dict[str, Any], finish_reason: str | None, logprobs: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    shown = {"content": list(logprobs), "refusal": None} if logprobs else None
    return {"index": index, **content, "logprobs": shown, "finish_reason": finish_reason}
