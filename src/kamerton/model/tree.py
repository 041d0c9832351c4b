"""The tree engine: many token sequences in one row, every shared prefix computed once.

Sequences become a radix tree laid out depth first in a single row. Each node attends to its ancestors and, causally,
to itself, so every token sees exactly what it would see alone. Training feeds a step's examples, label scoring a
prompt followed by each label. Without sharing the tree is a plain packed row: one node per sequence.

Source: Tree Training (arXiv 2511.00413).

Shapes: T tokens of the row, P predictions, H query heads, K key heads, D head dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface

from kamerton.plan.epoch import shared_prefix

ATTENTION = "kamerton_tree"


@dataclass(frozen=True, slots=True)
class Node:
    """A run of tokens `start:end` of the row, below `ancestors` (their runs, root first)."""

    start: int
    end: int
    ancestors: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One forward pass. Prediction p: the hidden state at `at[p]` predicts `token[p]` of sequence `sequence[p]`."""

    input_ids: Tensor  # (1, T)
    position_ids: Tensor  # (1, T)
    nodes: tuple[Node, ...]
    at: Tensor  # (P,)
    token: Tensor  # (P,)
    sequence: Tensor  # (P,)

    def to(self, device: torch.device) -> TreeRow:
        """The same row on another device."""
        moved = (tensor.to(device) for tensor in (self.input_ids, self.position_ids))
        input_ids, position_ids = moved
        at, token, sequence = (tensor.to(device) for tensor in (self.at, self.token, self.sequence))
        return TreeRow(input_ids, position_ids, self.nodes, at, token, sequence)


def build_row(
    sequences: Sequence[npt.NDArray[np.int32]], targets: Sequence[npt.NDArray[np.bool_]], *, share: bool
) -> TreeRow:
    """Lay `sequences` out in one row; `targets[i][t]` says that token t of sequence i is to be predicted.

    With `share`, equal prefixes are computed once. A target inside a shared prefix is still predicted once for
    every sequence that passes through it, so sums over predictions weigh it as often as separate rows would.
    """
    layout = _Layout(sequences)
    indices = list(range(len(sequences)))
    if share:
        indices.sort(key=lambda index: sequences[index].astype(">i4").tobytes())
        layout.grow(indices, 0, ())
    else:
        for index in indices:
            layout.add_node([index], 0, len(sequences[index]), ())
    at, token, owner = [], [], []
    for index, (sequence, target) in enumerate(zip(sequences, targets, strict=True)):
        predicted = np.flatnonzero(target)
        at.append(layout.paths[index][predicted - 1])
        token.append(sequence[predicted])
        owner.append(np.full(len(predicted), index))
    return TreeRow(
        input_ids=_long(np.concatenate(layout.tokens))[None],
        position_ids=_long(np.concatenate(layout.positions))[None],
        nodes=tuple(layout.nodes),
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
    tree: tuple[Node, ...] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of each node over its ancestors and itself.

    `query` is (1, H, T, D), `key` and `value` (1, K, T, D); returns (1, T, H, D) as transformers expects.
    """
    if tree is None:
        raise RuntimeError(f"{ATTENTION} attention was called without a tree; use sdpa for plain forward passes")
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    parts = []
    for node in tree:
        keys, values, mask = _visible(key, node), _visible(value, node), _mask(node, query.device)
        parts.append(
            F.scaled_dot_product_attention(
                query[:, :, node.start : node.end],
                keys,
                values,
                attn_mask=mask,
                dropout_p=dropout,
                is_causal=mask is None,
                scale=scaling,
            )
        )
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _visible(states: Tensor, node: Node) -> Tensor:
    runs = [states[:, :, start:end] for start, end in (*node.ancestors, (node.start, node.end))]
    return torch.cat(runs, dim=2) if len(runs) > 1 else runs[0]


def _mask(node: Node, device: torch.device) -> Tensor | None:
    before = sum(end - start for start, end in node.ancestors)
    return _lower_right(node.end - node.start, before, device) if before else None


@lru_cache(maxsize=4096)
def _lower_right(size: int, before: int, device: torch.device) -> Tensor:
    """(size, before + size): the first `before` keys are visible to all, the others causally."""
    return torch.ones(size, before + size, dtype=torch.bool, device=device).tril(before)


class _Layout:
    """Nodes in depth-first order while the tree grows, and where each sequence's tokens lie in the row."""

    def __init__(self, sequences: Sequence[npt.NDArray[np.int32]]) -> None:
        self.sequences = sequences
        self.paths = [np.empty(len(sequence), dtype=np.int64) for sequence in sequences]
        self.tokens: list[npt.NDArray[np.int32]] = []
        self.positions: list[npt.NDArray[np.int64]] = []
        self.nodes: list[Node] = []
        self.size = 0

    def add_node(
        self, members: list[int], begin: int, end: int, ancestors: tuple[tuple[int, int], ...]
    ) -> tuple[int, int]:
        start = self.size
        self.size += end - begin
        self.nodes.append(Node(start, self.size, ancestors))
        self.tokens.append(self.sequences[members[0]][begin:end])
        self.positions.append(np.arange(begin, end))
        for member in members:
            self.paths[member][begin:end] = np.arange(start, self.size)
        return start, self.size

    def grow(self, members: list[int], depth: int, ancestors: tuple[tuple[int, int], ...]) -> None:
        """Add the subtree of `members`, sorted sequences that agree on their first `depth` tokens."""
        first, last = self.sequences[members[0]], self.sequences[members[-1]]
        common = depth + shared_prefix(first[depth:], last[depth:])
        if common > depth:
            ancestors = (*ancestors, self.add_node(members, depth, common, ancestors))
        children: dict[int, list[int]] = {}
        for member in members:
            if len(self.sequences[member]) > common:
                children.setdefault(int(self.sequences[member][common]), []).append(member)
        for child in children.values():
            self.grow(child, common, ancestors)


def _long(values: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))
