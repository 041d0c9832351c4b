"""Batch layout: the examples of a step in forward passes. It never changes a result, so the fastest one can be used.

- `padded`: rows of similar length together, padded to the longest; the reference that the others are tested against.
- `packed`: rows concatenated, without padding.
- `tree`: like packed, and a prefix shared by several rows is computed once.
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
    """The examples of one forward pass; `tokens` is the number of tokens it computes."""

    examples: tuple[int, ...]
    tokens: int


def pack_examples(
    examples: Sequence[int],
    lengths: npt.NDArray[np.int32],
    max_tokens: int,
    packing: Packing,
    tokens: Callable[[int], Tokens] | None = None,
) -> list[MicroBatch]:
    """Lay `examples` out in forward passes of at most `max_tokens` computed tokens each.

    A longer example gets a separate pass. Raises `ValueError` for `tree` without `tokens`.
    """
    if packing == "padded":
        return _pack_padded(examples, lengths, max_tokens)
    if packing == "packed":
        return _pack_best_fit(examples, lengths, max_tokens)
    if tokens is None:
        raise ValueError("packing=tree needs the token ids")
    return _pack_tree(examples, lengths, max_tokens, tokens)


def shared_prefix(first: Tokens, second: Tokens) -> int:
    """Return the length of the common prefix of two sequences."""
    size = min(len(first), len(second))
    differs = np.flatnonzero(first[:size] != second[:size])
    return int(differs[0]) if len(differs) else size


def lexicographic(examples: Sequence[int], tokens: Callable[[int], Tokens]) -> list[int]:
    """Sort examples by their tokens, so that those with a common prefix are neighbours."""
    return sorted(examples, key=lambda example: (tokens(example).astype(">i4").tobytes(), example))


def _pack_padded(examples: Sequence[int], lengths: npt.NDArray[np.int32], max_tokens: int) -> list[MicroBatch]:
    """Pack by length, longest first, so that there is little padding."""
    batches: list[list[int]] = []
    longest = 0
    for example in sorted(examples, key=lambda example: (-int(lengths[example]), example)):
        if not batches or longest * (len(batches[-1]) + 1) > max_tokens:
            batches.append([])
            longest = int(lengths[example])
        batches[-1].append(example)
    return [MicroBatch(tuple(batch), int(lengths[batch[0]]) * len(batch)) for batch in batches]


def _pack_best_fit(examples: Sequence[int], lengths: npt.NDArray[np.int32], max_tokens: int) -> list[MicroBatch]:
    """Pack by best fit, longest first: at most 11/9 of the minimal number of passes (Johnson et al. 1974)."""
    batches: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (free tokens, batch), ascending
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


def _pack_tree(
    examples: Sequence[int], lengths: npt.NDArray[np.int32], max_tokens: int, tokens: Callable[[int], Tokens]
) -> list[MicroBatch]:
    """Pack consecutive examples in lexicographic order, so that neighbours share prefixes."""
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
