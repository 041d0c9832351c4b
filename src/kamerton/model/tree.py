"""The tree engine: many token sequences in one row, every shared prefix computed once.

Sequences become a radix tree laid out depth first in a single row. Each node attends to its ancestors and, causally,
to itself, so every token sees exactly what it would see alone. Training feeds a step's examples, label scoring a
prompt followed by each label. Without sharing the tree is a plain packed row: one node per sequence.

Source: Tree Training (arXiv 2511.00413).

Shapes: T tokens of the row, P predictions, H query heads, K key heads, D head dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface

from kamerton.plan.epoch import shared_prefix

ATTENTION = "kamerton_tree"


# Small subtrees share one attention call with a dense mask: a call costs about what 128 x 128 scores cost.
_BLOCK = 128


@dataclass(frozen=True, slots=True)
class Block:
    """Tokens `start:end` of the row and the runs before them that they all see, root first.

    `mask` (end - start, seen + end - start) says who sees whom; None: everything before, and causally oneself.
    """

    start: int
    end: int
    seen: tuple[tuple[int, int], ...]
    mask: Tensor | None


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One forward pass. Prediction p: the hidden state at `at[p]` predicts `token[p]` of sequence `sequence[p]`."""

    input_ids: Tensor  # (1, T)
    position_ids: Tensor  # (1, T)
    blocks: tuple[Block, ...]
    at: Tensor  # (P,)
    token: Tensor  # (P,)
    sequence: Tensor  # (P,)

    def to(self, device: torch.device) -> TreeRow:
        """The same row on another device."""
        if device == self.input_ids.device:
            return self
        blocks = (replace(block, mask=None if block.mask is None else block.mask.to(device)) for block in self.blocks)
        ids, positions, at, token, sequence = (
            tensor.to(device) for tensor in (self.input_ids, self.position_ids, self.at, self.token, self.sequence)
        )
        return TreeRow(ids, positions, tuple(blocks), at, token, sequence)


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
    return TreeRow(
        input_ids=_long(np.concatenate(layout.tokens))[None],
        position_ids=_long(np.concatenate(layout.positions))[None],
        blocks=tuple(layout.blocks()),
        at=_long(np.concatenate(at)),
        token=_long(np.concatenate(token)),
        sequence=_long(np.concatenate(owner)),
    )


def register_attention() -> None:
    """Make `attn_implementation="kamerton_tree"` known to transformers."""
    AttentionInterface.register(ATTENTION, tree_attention)


def tree_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    tree: tuple[Block, ...] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of each block over what it sees and itself.

    `query` is (1, H, T, D), `key` and `value` (1, K, T, D); returns (1, T, H, D) as transformers expects.
    """
    if tree is None:
        raise RuntimeError(f"{ATTENTION} attention was called without a tree; use sdpa for plain forward passes")
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    parts = [
        F.scaled_dot_product_attention(
            query[:, :, block.start : block.end],
            _visible(key, block),
            _visible(value, block),
            attn_mask=block.mask,
            dropout_p=dropout,
            is_causal=block.mask is None,
            scale=scaling,
        )
        for block in tree
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _visible(states: Tensor, block: Block) -> Tensor:
    runs = [states[:, :, start:end] for start, end in (*block.seen, (block.start, block.end))]
    return torch.cat(runs, dim=2) if len(runs) > 1 else runs[0]


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

    def blocks(self) -> Iterator[Block]:
        """The row as attention calls, in order."""
        yield from _blocks(self.roots)


def _blocks(siblings: list[_Node]) -> Iterator[Block]:
    """Neighbouring subtrees together while they are small; a large one as its first node and what is below it."""
    group: list[_Node] = []
    for node in siblings:
        if group and node.reach - group[0].start > _BLOCK:
            yield _block(group)
            group = []
        if node.reach - node.start > _BLOCK and node.children:
            yield _block([replace(node, children=[])])
            yield from _blocks(node.children)
        else:
            group.append(node)
    if group:
        yield _block(group)


def _block(nodes: list[_Node]) -> Block:
    start = nodes[0].start
    end = nodes[-1].reach if nodes[-1].children else nodes[-1].end
    seen = tuple((node.start, node.end) for node in nodes[0].path())
    before = sum(stop - begin for begin, stop in seen)
    if len(nodes) == 1 and not nodes[0].children and before == 0:
        return Block(start, end, seen, None)
    mask = np.zeros((end - start, before + end - start), dtype=bool)
    mask[:, :before] = True
    for node in nodes:
        _mark(mask, node, start, before, [])
    return Block(start, end, seen, torch.from_numpy(mask))


def _mark(mask: npt.NDArray[np.bool_], node: _Node, start: int, before: int, above: list[_Node]) -> None:
    """Let `node` see the nodes above it within the block, and itself causally."""
    rows = slice(node.start - start, node.end - start)
    for seen in above:
        mask[rows, before + seen.start - start : before + seen.end - start] = True
    size = node.end - node.start
    mask[rows, before + rows.start : before + rows.stop] = np.tri(size, dtype=bool)
    for child in node.children:
        _mark(mask, child, start, before, [*above, node])


def _long(values: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))
