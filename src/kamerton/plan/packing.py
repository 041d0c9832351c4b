"""The cut: examples laid out in forward passes for the hardware. It never changes a result, so the fastest one is free.

- `padded`: rows of similar length together, padded to the longest; the reference the other cuts are tested against.
- `packed`: rows concatenated, no padding.
- `tree`: as packed, and a prefix shared by several rows is computed once.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Packing = Literal["padded", "packed", "tree"]
Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Examples that go through the model in one forward pass; `tokens` is what that pass computes."""

    examples: tuple[int, ...]
    tokens: int


def pack_examples(
    examples: Sequence[int],
    lengths: npt.NDArray[np.int32],
    max_tokens: int,
    packing: Packing,
    tokens: Callable[[int], Tokens] | None = None,
) -> list[MicroBatch]:
    """Lay `examples` out in forward passes of at most `max_tokens` computed tokens each."""
    if packing == "padded":
        return _cut_padded(examples, lengths, max_tokens)
    if packing == "packed":
        return _cut_packed(examples, lengths, max_tokens)
    if tokens is None:
        raise ValueError("the tree cut needs the token ids")
    return _cut_tree(examples, lengths, max_tokens, tokens)


def shared_prefix(first: Tokens, second: Tokens) -> int:
    """Return number of leading tokens that both sequences have in common."""
    size = min(len(first), len(second))
    differs = np.flatnonzero(first[:size] != second[:size])
    return int(differs[0]) if len(differs) else size


def lexicographic(examples: Sequence[int], tokens: Callable[[int], Tokens]) -> list[int]:
    """Return examples ordered so that those with a common prefix are neighbours."""
    return sorted(examples, key=lambda example: (tokens(example).astype(">i4").tobytes(), example))


def _cut_padded(examples: Sequence[int], lengths: npt.NDArray[np.int32], max_tokens: int) -> list[MicroBatch]:
    """Return By length, longest first, so that little is padded."""
    batches: list[list[int]] = []
    longest = 0
    for example in sorted(examples, key=lambda example: (-int(lengths[example]), example)):
        if not batches or longest * (len(batches[-1]) + 1) > max_tokens:
            batches.append([])
            longest = int(lengths[example])
        batches[-1].append(example)
    return [MicroBatch(tuple(batch), int(lengths[batch[0]]) * len(batch)) for batch in batches]


def _cut_packed(examples: Sequence[int], lengths: npt.NDArray[np.int32], max_tokens: int) -> list[MicroBatch]:
    """Return Best fit, longest first: at most 11/9 of the fewest possible passes (Johnson et al. 1974)."""
    batches: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # what is free in which batch, ascending
    for example in sorted(examples, key=lambda example: (-int(lengths[example]), example)):
        size = int(lengths[example])
        fit = bisect_left(rooms, (size, 0))
        if fit == len(rooms):
            batches.append([])
            rooms.append((max_tokens, len(batches) - 1))
            fit = len(rooms) - 1
        free, batch = rooms.pop(fit)
        batches[batch].append(example)
        insort(rooms, (free - size, batch))
    return [MicroBatch(tuple(batch), int(lengths[batch].sum())) for batch in batches]


def _cut_tree(
    examples: Sequence[int], lengths: npt.NDArray[np.int32], max_tokens: int, tokens: Callable[[int], Tokens]
) -> list[MicroBatch]:
    batches: list[list[int]] = []
    sizes: list[int] = []
    previous: Tokens | None = None
    for example in lexicographic(examples, tokens):
        size, row = int(lengths[example]), tokens(example)
        shared = 0 if previous is None else shared_prefix(previous, row)
        if not batches or sizes[-1] + size - shared > max_tokens:
            batches.append([])
            sizes.append(0)
            shared = 0
        batches[-1].append(example)
        sizes[-1] += size - shared
        previous = row
    return [MicroBatch(tuple(batch), size) for batch, size in zip(batches, sizes, strict=True)]
