"""Answers in OpenAI's formats: chat completions and text completions, complete and as chunks of a stream."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from kamerton.server.generation.client import Piece


@dataclass(frozen=True, slots=True)
class Shape:
    """Format of one answer of `model`; id and time are the same in all of its chunks."""

    model: str
    is_chat: bool
    id: str = field(default_factory=lambda: uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def complete(self, answer: Piece) -> dict[str, Any]:
        """Return a complete answer."""
        message = {"role": "assistant", "content": answer.text, "refusal": None}
        content = {"message": message} if self.is_chat else {"text": answer.text}
        return self._frame(answer, [_choice(content, answer.finish_reason)], chunk=False) | {"usage": usage(answer)}

    def opening(self, first: Piece) -> dict[str, Any]:
        """Return the first chunk, with the role; text completions have none."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return self._frame(first, [_choice({"delta": delta}, None)], chunk=True)

    def part(self, piece: Piece) -> dict[str, Any]:
        """Return a chunk of text."""
        content = {"delta": {"content": piece.text}} if self.is_chat else {"text": piece.text}
        return self._frame(piece, [_choice(content, None)], chunk=True)

    def ending(self, last: Piece) -> dict[str, Any]:
        """Return the chunk with the finish reason."""
        content: dict[str, Any] = {"delta": {}} if self.is_chat else {"text": ""}
        return self._frame(last, [_choice(content, last.finish_reason)], chunk=True)

    def usage(self, last: Piece) -> dict[str, Any]:
        """Return the chunk with the numbers of tokens."""
        return self._frame(last, [], chunk=True) | {"usage": usage(last)}

    def _frame(self, piece: Piece, choices: list[dict[str, Any]], *, chunk: bool) -> dict[str, Any]:
        kind = ("chat.completion.chunk" if chunk else "chat.completion") if self.is_chat else "text_completion"
        return {
            "id": f"{'chatcmpl' if self.is_chat else 'cmpl'}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": piece.fingerprint,
            "choices": choices,
        }


def usage(last: Piece) -> dict[str, int]:
    """Return the token counts of prompt and answer, without the end token."""
    total = last.prompt_tokens + last.tokens
    return {"prompt_tokens": last.prompt_tokens, "completion_tokens": last.tokens, "total_tokens": total}


def _choice(content: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, **content, "logprobs": None, "finish_reason": finish_reason}
