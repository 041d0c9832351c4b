"""What is trained on: the options `data.train_on`, `data.train_on_reasoning` and `data.earlier_reasoning`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kamerton.data.example import Message
from kamerton.data.parts import WHOLE

Stretch = tuple[str, bool]  # a text, and whether its tokens are targets
LAST = WHOLE  # the turn of a part that ends with the completion


@dataclass(frozen=True, slots=True)
class Targets:
    """Which turns are trained on (`all`, `calls` or `answers`), whether their reasoning is, and what is made of the
    reasoning of earlier turns (`template`, `keep` or `drop`)."""

    train_on: str = "all"
    reasoning: bool = True
    earlier_reasoning: str = "template"

    def trains(self, turn: Message) -> bool:
        """Return whether a turn is trained on."""
        if turn.role != "assistant" or turn.weight <= 0:
            return False
        return self.train_on == "all" or bool(turn.tool_calls) == (self.train_on == "calls")


@dataclass(frozen=True, slots=True)
class Part:
    """One token sequence of an example: all of it, or the conversation up to one trained turn.

    `turn` is that turn, `LAST` for the completion; `weight` is the weight of the targets in the loss.
    """

    stretches: list[Stretch]
    turn: int = LAST
    weight: float = 1.0


def cut(text: str, spans: Sequence[tuple[int, int]]) -> list[Stretch]:
    """Split `text` at the boundaries of the target spans, which are in order and do not overlap."""
    result: list[Stretch] = []
    at = 0
    for start, end in spans:
        result += [(text[at:start], False), (text[start:end], True)]
        at = end
    return [stretch for stretch in [*result, (text[at:], False)] if stretch[0]]


def without_span(span: tuple[int, int], hole: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the parts of a span around a hole in it."""
    return [(start, end) for start, end in ((span[0], hole[0]), (hole[1], span[1])) if end > start]
