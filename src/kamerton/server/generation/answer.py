"""The state of one answer while it is generated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kamerton.server.generation.constrain import FirstCall
from kamerton.server.generation.constraint import Constraint
from kamerton.server.generation.model_cache import Served
from kamerton.server.generation.text_stream import TextStream


@dataclass(slots=True)
class Answer:
    """One answer; `max_tokens` is its limit.

    `top` is the number of most likely tokens to report, None without log-probabilities; `logprobs` are not yet emitted.
    With `first_call` the answer ends with its first call. `constraint` is that of its row.
    """

    tenant: str
    served: Served
    text: TextStream
    max_tokens: int
    top: int | None = None
    constraint: Constraint | None = None
    first_call: FirstCall | None = None
    logprobs: list[dict[str, Any]] = field(default_factory=list)

    def add(self, token: int) -> tuple[str, str | None]:
        """Add a token; return the text that became final, and why the answer ends ("stop", "length") or None."""
        ended = token in self.served.ends
        piece = "" if ended else self.text.add(token)
        complete = self.constraint is not None and self.constraint.complete
        if self.first_call is not None:
            complete = self.first_call.complete(piece) or complete
        if ended or complete or self.text.stopped:
            return piece, "stop"
        return piece, "length" if len(self.text.tokens) >= self.max_tokens else None
