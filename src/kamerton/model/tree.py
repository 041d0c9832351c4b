"""The tree: many token sequences in one row, every shared prefix computed once.

Sequences become a radix tree laid out depth first in a single row. Each node attends to its ancestors and, causally,
to itself, so every token sees exactly what it would see alone. Training feeds a step's examples, label scoring a
prompt followed by each label. Without sharing the tree is a plain packed row: one node per sequence.

Source: Tree Training (arXiv 2511.00413).

Shapes: T tokens of the row, P predictions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kamerton.plan.cut import shared_prefix

# Small subtrees share one attention call with a dense mask: a call costs about what 128 x 128 scores cost.
_BLOCK = 128

Runs = tuple[tuple[int, int], ...]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Block:
    """Tokens `start:end` of the row and the runs before them that they see, root first.

    `mask` (end - start, seen + end - start) says who sees whom; None: everything before, and causally oneself.
    """

    start: int
    end: int
    seen: Runs
    mask: Tensor | None


@dataclass(frozen=True, slots=True)
class Tree:
    """Who sees whom: token q sees token k when k <= q < reach[k], the end of the subtree below k's node.

    In a sliding window their positions must also differ by less than the window. `blocks` say the same as attention
    calls, in order.
    """

    blocks: tuple[Block, ...]
    positions: Whole  # (T,) within the sequence
    reach: Whole  # (T,)
    device: torch.device
    cache: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def to(self, device: torch.device) -> Tree:
        """The same tree with its masks on another device."""
        return Tree(tuple(_moved(block, device) for block in self.blocks), self.positions, self.reach, device)

    def within(self, window: int | None) -> tuple[Block, ...]:
        """The attention calls of a layer that sees `window` positions back, itself included; None: all of them."""
        if window is None or int(self.positions.max()) < window:
            return self.blocks
        if window not in self.cache:
            windowed = (part for block in self.blocks for part in _windowed(block, self.positions, self.reach, window))
            self.cache[window] = tuple(_moved(block, self.device) for block in windowed)
        return self.cache[window]  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One forward pass. Prediction p: the hidden state at `at[p]` predicts `token[p]` of sequence `sequence[p]`."""

    input_ids: Tensor  # (1, T)
    position_ids: Tensor  # (1, T)
    tree: Tree
    at: Tensor  # (P,)
    token: Tensor  # (P,)
    sequence: Tensor  # (P,)

    def to(self, device: torch.device) -> TreeRow:
        """The same row on another device."""
        if device == self.input_ids.device:
            return self
        ids, positions, at, token, sequence = (
            tensor.to(device) for tensor in (self.input_ids, self.position_ids, self.at, self.token, self.sequence)
        )
        return TreeRow(ids, positions, self.tree.to(device), at, token, sequence)


def build_row(
    sequences: Sequence[npt.NDArray[np.int32]], targets: Sequence[npt.NDArray[np.bool_]], *, share: bool
) -> TreeRow:
    """Lay `sequences` out in one row; `targets[i][t]` says that token t of sequence i is to be predicted.

    The last token of a sequence predicts nothing, so it is no input. With `share`, equal prefixes are computed once.
    A target inside a shared prefix is still predicted once for every sequence that passes through it, so sums over
    predictions weigh it as often as separate rows would.
    """
    layout = _Layout([sequence[:-1] for sequence in sequences])
    indices = list(range(len(sequences)))
    if share:
        indices.sort(key=lambda index: layout.sequences[index].astype(">i4").tobytes())
        layout.grow(indices, 0, None)
    else:
        for index in indices:
            layout.add([index], 0, len(layout.sequences[index]), None)
    at, token, owner = [], [], []
    for index, (sequence, target) in enumerate(zip(sequences, targets, strict=True)):
        predicted = np.flatnonzero(target)
        at.append(layout.paths[index][predicted - 1])
        token.append(sequence[predicted])
        owner.append(np.full(len(predicted), index))
    tree = layout.tree()
    return TreeRow(
        input_ids=_long(np.concatenate(layout.tokens))[None],
        position_ids=_long(tree.positions)[None],
        tree=tree,
        at=_long(np.concatenate(at)),
        token=_long(np.concatenate(token)),
        sequence=_long(np.concatenate(owner)),
    )


@dataclass(slots=True)
class _Node:
    """A run of tokens that some sequences share; `end` of its whole subtree is `reach`."""

    start: int
    end: int
    parent: _Node | None
    reach: int = 0
    children: list[_Node] = field(default_factory=list)

    def path(self) -> list[_Node]:
        """The nodes above this one, root first."""
        return [] if self.parent is None else [*self.parent.path(), self.parent]


class _Layout:
    """The tree while it grows, depth first, and where each sequence's tokens lie in the row."""

    def __init__(self, sequences: Sequence[npt.NDArray[np.int32]]) -> None:
        self.sequences = sequences
        self.paths = [np.empty(len(sequence), dtype=np.int64) for sequence in sequences]
        self.tokens: list[npt.NDArray[np.int32]] = []
        self.positions: list[npt.NDArray[np.int64]] = []
        self.roots: list[_Node] = []
        self.size = 0

    def add(self, members: list[int], begin: int, end: int, parent: _Node | None) -> _Node:
        """Append tokens `begin:end` of `members` (which agree on them) as one node."""
        start, self.size = self.size, self.size + end - begin
        node = _Node(start, self.size, parent, self.size)
        (self.roots if parent is None else parent.children).append(node)
        self.tokens.append(self.sequences[members[0]][begin:end])
        self.positions.append(np.arange(begin, end))
        for member in members:
            self.paths[member][begin:end] = np.arange(start, self.size)
        return node

    def grow(self, members: list[int], depth: int, parent: _Node | None) -> None:
        """Add the subtree of `members`, sorted sequences that agree on their first `depth` tokens."""
        first, last = self.sequences[members[0]], self.sequences[members[-1]]
        common = depth + shared_prefix(first[depth:], last[depth:])
        node = self.add(members, depth, common, parent) if common > depth else parent
        branches: dict[int, list[int]] = {}
        for member in members:
            if len(self.sequences[member]) > common:
                branches.setdefault(int(self.sequences[member][common]), []).append(member)
        for branch in branches.values():
            self.grow(branch, common, node)
        if node is not None:
            node.reach = self.size

    def tree(self) -> Tree:
        """The finished tree."""
        reach = np.empty(self.size, dtype=np.int64)
        pending = list(self.roots)
        while pending:
            node = pending.pop()
            reach[node.start : node.end] = node.reach
            pending += node.children
        return Tree(tuple(_blocks(self.roots, reach)), np.concatenate(self.positions), reach, torch.device("cpu"))


def _blocks(siblings: list[_Node], reach: Whole) -> Iterator[Block]:
    """Neighbouring subtrees together while they are small; a large one as its first node and what is below it."""
    group: list[_Node] = []
    for node in siblings:
        if group and node.reach - group[0].start > _BLOCK:
            yield _block(group, reach)
            group = []
        if node.reach - node.start > _BLOCK and node.children:
            yield _block([replace(node, children=[])], reach)
            yield from _blocks(node.children, reach)
        else:
            group.append(node)
    if group:
        yield _block(group, reach)


def _block(nodes: list[_Node], reach: Whole) -> Block:
    start = nodes[0].start
    end = nodes[-1].reach if nodes[-1].children else nodes[-1].end
    seen = tuple((node.start, node.end) for node in nodes[0].path())
    if len(nodes) == 1 and not nodes[0].children and not seen:
        return Block(start, end, seen, None)
    return Block(start, end, seen, torch.from_numpy(_sees(start, end, seen, reach)))


def _sees(start: int, end: int, seen: Runs, reach: Whole) -> npt.NDArray[np.bool_]:
    """Who of tokens `start:end` sees whom of `seen` and themselves: (end - start, seen + end - start)."""
    queries, keys = np.arange(start, end)[:, None], _indices((*seen, (start, end)))
    return (keys <= queries) & (queries < reach[keys])


def _windowed(block: Block, positions: Whole, reach: Whole, window: int) -> Iterator[Block]:
    """The block in pieces no longer than the window, so that each needs few keys, and no key out of sight."""
    if int(positions[block.start : block.end].max()) < window:
        yield block
        return
    size = max(window, _BLOCK)
    for start in range(block.start, block.end, size):
        end = min(start + size, block.end)
        oldest = int(positions[start:end].min()) - window + 1  # the first position that any of them sees
        runs = (*block.seen, (block.start, start))
        trimmed = ((max(begin, begin + oldest - int(positions[begin])), stop) for begin, stop in runs if begin < stop)
        seen = tuple((begin, stop) for begin, stop in trimmed if begin < stop)
        keys = _indices((*seen, (start, end)))
        near = positions[start:end, None] - positions[keys] < window
        yield Block(start, end, seen, torch.from_numpy(_sees(start, end, seen, reach) & near))


def _indices(runs: Runs) -> Whole:
    return np.concatenate([np.arange(start, end) for start, end in runs])


def _moved(block: Block, device: torch.device) -> Block:
    return block if block.mask is None else replace(block, mask=block.mask.to(device))


def _long(values: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))
