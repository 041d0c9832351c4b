"""The tree: many token sequences in one row, with every shared prefix computed once.

Sequences become a radix tree, stored depth first in a single row. Each node attends to its ancestors and, causally, to
itself, so every token sees the same tokens as in its own sequence. Training passes a step's examples, label scoring a
prompt followed by each label. Without sharing the tree is a plain packed row: a node per sequence.

Source: Tree Training (arXiv 2511.00413).

Shapes: T tokens of the row, P predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kamerton.model.tree_blocks import Block, Node, Whole, make_blocks, moved_block, windowed
from kamerton.plan.packing import shared_prefix


@dataclass(frozen=True, slots=True)
class Tree:
    """The attention pattern: token q sees token k if k <= q < reach[k], the end of the subtree below k's node.

    In a sliding window their positions must also differ by less than the window. `blocks` is the same pattern as
    attention calls, in order.
    """

    blocks: tuple[Block, ...]
    positions: Whole  # (T,) within the sequence
    reach: Whole  # (T,)
    device: torch.device
    cache: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def to(self, device: torch.device) -> Tree:
        """Return the same tree with its masks on another device."""
        return Tree(tuple(moved_block(block, device) for block in self.blocks), self.positions, self.reach, device)

    def within(self, window: int | None) -> tuple[Block, ...]:
        """Return the attention calls of a layer with a window of `window` positions, itself included (None: all)."""
        if window is None or int(self.positions.max()) < window:
            return self.blocks
        if window not in self.cache:
            parts = (part for block in self.blocks for part in windowed(block, self.positions, self.reach, window))
            self.cache[window] = tuple(moved_block(part, self.device) for part in parts)
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
        """Return the same row on another device."""
        if device == self.input_ids.device:
            return self
        ids, positions, at, token, sequence = (
            tensor.to(device) for tensor in (self.input_ids, self.position_ids, self.at, self.token, self.sequence)
        )
        return TreeRow(ids, positions, self.tree.to(device), at, token, sequence)


def build_row(
    sequences: Sequence[npt.NDArray[np.int32]], targets: Sequence[npt.NDArray[np.bool_]], *, share: bool
) -> TreeRow:
    """Lay `sequences` out in one row; token t of sequence i is predicted if `targets[i][t]`.

    The last token of a sequence is not an input, because nothing follows it. With `share`, equal prefixes are computed
    once. A target in a shared prefix is still predicted once for every sequence that contains it, so sums over
    predictions are the same as for separate rows.
    """
    layout = _Layout([sequence[:-1] for sequence in sequences])
    indices = list(range(len(sequences)))
    if share:
        indices.sort(key=lambda index: layout.sequences[index].astype(">i4").tobytes())
        layout.grow(indices)
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


class _Layout:
    """Builds the tree depth first, and records the positions of each sequence's tokens in the row.

    Not recursive, because a tree may be as deep as its longest sequence.
    """

    def __init__(self, sequences: Sequence[npt.NDArray[np.int32]]) -> None:
        self.sequences = sequences
        self.paths = [np.empty(len(sequence), dtype=np.int64) for sequence in sequences]
        self.tokens: list[npt.NDArray[np.int32]] = []
        self.positions: list[npt.NDArray[np.int64]] = []
        self.nodes: list[Node] = []
        self.size = 0

    def add(self, members: list[int], begin: int, end: int, parent: Node | None) -> Node:
        """Append tokens `begin:end` of `members`, which have them in common up to their lengths, as one node."""
        start, self.size = self.size, self.size + end - begin
        node = Node(start, self.size, parent, self.size)
        self.nodes.append(node)
        if parent is not None:
            parent.children.append(node)
        self.tokens.append(self.sequences[members[-1]][begin:end])
        self.positions.append(np.arange(begin, end))
        places = np.arange(start, self.size)
        for member in members:
            path = self.paths[member]
            path[begin:end] = places[: len(path) - begin]
        return node

    def grow(self, members: list[int]) -> None:
        """Add the tree of `members`, which are sorted."""
        pending: list[tuple[list[int], int, Node | None]] = [(members, 0, None)]
        while pending:
            members, begin, parent = pending.pop()
            end, longer = self._common_prefix(members, begin)
            node = self.add(members, begin, end, parent) if end > begin else parent
            branches: dict[int, list[int]] = {}
            for member in longer:
                branches.setdefault(int(self.sequences[member][end]), []).append(member)
            pending += [(branch, end, node) for branch in reversed(branches.values())]

    def _common_prefix(self, members: list[int], begin: int) -> tuple[int, list[int]]:
        """Return the end of the prefix shared by `members`, at least `begin`, and the members that are longer.

        A member that ends earlier is a prefix of those after it, and does not end the shared prefix.
        """
        end, ended = begin, 0
        last = self.sequences[members[-1]]
        while True:
            end += shared_prefix(self.sequences[members[ended]][end:], last[end:])
            before = ended
            while ended < len(members) and len(self.sequences[members[ended]]) == end:
                ended += 1
            if ended in (before, len(members)):
                return end, members[ended:]

    def tree(self) -> Tree:
        """Return the finished tree."""
        reach = np.empty(self.size, dtype=np.int64)
        for node in reversed(self.nodes):  # children before their parents
            reach[node.start : node.end] = node.reach
            if node.parent is not None:
                node.parent.reach = max(node.parent.reach, node.reach)
        blocks = tuple(make_blocks([node for node in self.nodes if node.parent is None], reach))
        return Tree(blocks, np.concatenate(self.positions), reach, torch.device("cpu"))


def _long(values: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))
