"""Parts of stored rows that are encoded separately: a conversation up to a turn, an alternative, a window of a text.

A part is a number: 0 for the whole row (or the part that ends with the completion, or the first window), k > 0 for the
conversation that ends with turn k, `ALTERNATIVE` + k for the prompt with alternative k, and -k for window k of a text.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from kamerton.data.example import DataExample

WHOLE = 0
ALTERNATIVE = 2**30  # more than any number of a turn


def part_of(example: DataExample, part: int) -> DataExample:
    """Return the part of an example: as a conversation it ends with the turn, and its earlier turns are context."""
    if part >= ALTERNATIVE:
        other = example.alternatives[part - ALTERNATIVE]
        return replace(
            example,
            completion=other.completion,
            reasoning=other.reasoning,
            tool_calls=other.tool_calls,
            score=other.score,
            alternatives=(),
        )
    if part <= WHOLE or isinstance(example.prompt, str):
        return example
    before = tuple(replace(turn, weight=0.0) if turn.role == "assistant" else turn for turn in example.prompt[:part])
    turn = example.prompt[part]
    return replace(
        example,
        prompt=before,
        completion=turn.content,
        reasoning=turn.reasoning,
        tool_calls=turn.tool_calls,
        weight=turn.weight,
    )


def part_id(row_id: int, part: int) -> int:
    """Return the id of a part as a number; that of `WHOLE` is the row's."""
    if part == WHOLE:
        return row_id
    return int.from_bytes(hashlib.blake2b(f"{row_id:016x} {part}".encode(), digest_size=8).digest(), "big")
