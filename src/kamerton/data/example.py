"""One example: the prompt that the model reads, the completion it learns, and metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    """One chat turn. An assistant turn with `weight` 0 is context only: it is not trained on."""

    role: str
    content: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class DataExample:
    """A prompt and its completion.

    Args:
        prompt: a text (one user turn), or the chat turns before the completion, in which earlier assistant turns with a
            positive weight are trained on as well.
        completion: the text that is trained on.
        metadata: further fields by name; copied to the score table.

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

    @property
    def messages(self) -> tuple[Message, ...]:
        """All turns of the conversation, the completion last."""
        before = (Message("user", self.prompt),) if isinstance(self.prompt, str) else self.prompt
        return (*before, Message("assistant", self.completion))

    @property
    def prompt_text(self) -> str:
        """The prompt as one text, one line per turn of a chat, as reports and scores tables show it."""
        turns = self.prompt
        return turns if isinstance(turns, str) else "\n".join(f"{turn.role}: {turn.content}" for turn in turns)

    @property
    def id(self) -> str:
        """Content hash of prompt and completion: 16 hex digits, independent of machine and row order."""
        turns = [[turn.role, turn.content, turn.weight] for turn in self.messages]
        return hashlib.blake2b(json.dumps(turns).encode(), digest_size=8).hexdigest()
