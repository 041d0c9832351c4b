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
Group = tuple[int, ...]  # examples that are laid out together, such as the completions of one prompt


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
    return pack_groups([(example,) for example in examples], lengths, max_tokens, packing, tokens)


def pack_groups(
    groups: Sequence[Group],
    lengths: npt.NDArray[np.int32],
    max_tokens: int,
    packing: Packing,
    tokens: Callable[[int], Tokens] | None = None,
) -> list[MicroBatch]:
    """Like `pack_examples`, but the examples of a group stay in one pass, unless they alone exceed `max_tokens`."""
    if packing == "tree" and tokens is None:
        raise ValueError("packing=tree needs the token ids")
    units: list[Group] = []
    for group in groups:
        if len(group) > 1 and _size(group, lengths, packing, tokens) > max_tokens:
            units += [(example,) for example in group]
        else:
            units.append(tuple(group))
    if packing == "padded":
        return _pack_padded(units, lengths, max_tokens)
    if packing == "packed":
        return _pack_best_fit(units, lengths, max_tokens)
    assert tokens is not None
    return _pack_tree(units, lengths, max_tokens, tokens)


def shared_prefix(first: Tokens, second: Tokens) -> int:
    """Return the length of the common prefix of two sequences."""
    size = min(len(first), len(second))
    differs = np.flatnonzero(first[:size] != second[:size])
    return int(differs[0]) if len(differs) else size


def lexicographic(groups: Sequence[Group], tokens: Callable[[int], Tokens]) -> list[Group]:
    """Sort groups, and the examples of each, by their tokens, so that those with a common prefix are neighbours."""

    def key(example: int) -> tuple[bytes, int]:
        return tokens(example).astype(">i4").tobytes(), example

    ordered = [group if len(group) == 1 else tuple(sorted(group, key=key)) for group in groups]
    return sorted(ordered, key=lambda group: key(group[0]))


def _size(
    group: Group, lengths: npt.NDArray[np.int32], packing: Packing, tokens: Callable[[int], Tokens] | None
) -> int:
    """Return the tokens that a pass with this group alone computes."""
    if packing == "padded":
        return int(lengths[list(group)].max()) * len(group)
    if packing == "packed" or tokens is None:
        return int(lengths[list(group)].sum())
    return _added(lexicographic([group], tokens)[0], None, lengths, tokens)[0]


def _added(
    group: Group, previous: Tokens | None, lengths: npt.NDArray[np.int32], tokens: Callable[[int], Tokens]
) -> tuple[int, Tokens]:
    """Return the tokens that a sorted group adds to a tree whose last sequence is `previous`, and its own last one."""
    size = 0
    for example in group:
        row = tokens(example)
        size += int(lengths[example]) - (0 if previous is None else shared_prefix(previous, row))
        previous = row
    assert previous is not None
    return size, previous


def _pack_padded(groups: Sequence[Group], lengths: npt.NDArray[np.int32], max_tokens: int) -> list[MicroBatch]:
    """Pack by length, longest first, so that there is little padding."""
    longest_of = {group: max(int(lengths[example]) for example in group) for group in groups}
    batches: list[list[int]] = []
    sizes: list[int] = []
    longest = 0
    for group in sorted(groups, key=lambda group: (-longest_of[group], group)):
        if not batches or longest * (len(batches[-1]) + len(group)) > max_tokens:
            batches.append([])
            longest = longest_of[group]
            sizes.append(longest)
        batches[-1] += group
    return [MicroBatch(tuple(batch), size * len(batch)) for batch, size in zip(batches, sizes, strict=True)]


def _pack_best_fit(groups: Sequence[Group], lengths: npt.NDArray[np.int32], max_tokens: int) -> list[MicroBatch]:
    """Pack by best fit, longest first: at most 11/9 of the minimal number of passes (Johnson et al. 1974)."""
    size_of = {group: sum(int(lengths[example]) for example in group) for group in groups}
    batches: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (free tokens, batch), ascending
    for group in sorted(groups, key=lambda group: (-size_of[group], group)):
        size = size_of[group]
        fit = bisect_left(rooms, (size, 0))
        if fit == len(rooms):
            batches.append([])
            rooms.append((max_tokens, len(batches) - 1))
            fit = len(rooms) - 1
        free, batch = rooms.pop(fit)
        batches[batch] += group
        insort(rooms, (free - size, batch))
    return [MicroBatch(tuple(batch), int(lengths[batch].sum())) for batch in batches]


def _pack_tree(
    groups: Sequence[Group], lengths: npt.NDArray[np.int32], max_tokens: int, tokens: Callable[[int], Tokens]
) -> list[MicroBatch]:
    """Pack consecutive groups in lexicographic order, so that neighbours share prefixes."""
    batches: list[list[int]] = []
    sizes: list[int] = []
    previous: Tokens | None = None
    for group in lexicographic(groups, tokens):
        added, last = _added(group, previous, lengths, tokens)
        if not batches or sizes[-1] + added > max_tokens:
            batches.append([])
            sizes.append(0)
            added, last = _added(group, None, lengths, tokens)
        batches[-1] += group
        sizes[-1] += added
        previous = last
    if any(len(group) > 1 for group in groups):  # sequences of different groups may share more than neighbours do
        ordered = (lexicographic([tuple(batch)], tokens)[0] for batch in batches)
        sizes = [_added(batch, None, lengths, tokens)[0] for batch in ordered]
    return [MicroBatch(tuple(batch), size) for batch, size in zip(batches, sizes, strict=True)]
