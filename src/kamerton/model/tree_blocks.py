"""The attention calls of a tree: blocks of its tokens with the earlier runs that are visible to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# Small subtrees share one attention call with a dense mask: a call costs about as much as 128 x 128 scores.
_BLOCK = 128


Runs = tuple[tuple[int, int], ...]


Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Block:
    """Tokens `start:end` of the row and the earlier runs that are visible to them, root first.

    `mask` (end - start, seen + end - start) is the attention mask; None: all earlier runs, and causally themselves.
    """

    start: int
    end: int
    seen: Runs
    mask: Tensor | None


@dataclass(slots=True)
class Node:
    """A run of tokens shared by sequences; `reach` is the end of the subtree below it."""

    start: int
    end: int
    parent: Node | None
    reach: int
    children: list[Node] = field(default_factory=list)


def make_blocks(roots: list[Node], reach: Whole) -> Iterator[Block]:
    """Yield small neighbouring subtrees together; a large subtree as its first node, then the blocks below it."""
    pending: list[tuple[Iterator[Node], Runs]] = [(iter(roots), ())]  # remaining siblings, and the runs they see
    while pending:
        siblings, seen = pending.pop()
        group: list[Node] = []
        for node in siblings:
            if group and node.reach - group[0].start > _BLOCK:
                yield _block(group, seen, reach)
                group = []
            if node.reach - node.start > _BLOCK and node.children:
                yield _node_block(node, seen, reach)
                below = (*seen, (node.start, node.end))
                if seen and seen[-1][1] == node.start:  # adjacent runs are merged
                    below = (*seen[:-1], (seen[-1][0], node.end))
                pending += [(siblings, seen), (iter(node.children), below)]
                break
            group.append(node)
        if group:
            yield _block(group, seen, reach)


def _block(nodes: list[Node], seen: Runs, reach: Whole) -> Block:
    """Return the block of complete subtrees."""
    if len(nodes) == 1 and not nodes[0].children:
        return _node_block(nodes[0], seen, reach)
    start, end = nodes[0].start, nodes[-1].reach
    return Block(start, end, seen, torch.from_numpy(_sees(start, end, seen, reach)))


def _node_block(node: Node, seen: Runs, reach: Whole) -> Block:
    mask = torch.from_numpy(_sees(node.start, node.end, seen, reach)) if seen else None
    return Block(node.start, node.end, seen, mask)


def _sees(start: int, end: int, seen: Runs, reach: Whole) -> npt.NDArray[np.bool_]:
    """Return the mask of tokens `start:end` over `seen` and themselves: (end - start, seen + end - start)."""
    queries, keys = np.arange(start, end)[:, None], _indices((*seen, (start, end)))
    return (keys <= queries) & (queries < reach[keys])


def windowed(block: Block, positions: Whole, reach: Whole, window: int) -> Iterator[Block]:
    """Yield the block in pieces of about the window's length, each with only the keys in its window."""
    if int(positions[block.start : block.end].max()) < window:
        yield block
        return
    size = max(window, _BLOCK)
    for start in range(block.start, block.end, size):
        end = min(start + size, block.end)
        oldest = int(positions[start:end].min()) - window + 1  # the first visible position
        runs = (*block.seen, (block.start, start))
        trimmed = ((max(begin, begin + oldest - int(positions[begin])), stop) for begin, stop in runs if begin < stop)
        seen = tuple((begin, stop) for begin, stop in trimmed if begin < stop)
        keys = _indices((*seen, (start, end)))
        near = positions[start:end, None] - positions[keys] < window
        yield Block(start, end, seen, torch.from_numpy(_sees(start, end, seen, reach) & near))


def _indices(runs: Runs) -> Whole:
    return np.concatenate([np.arange(start, end) for start, end in runs])


def moved_block(block: Block, device: torch.device) -> Block:
    return block if block.mask is None else replace(block, mask=block.mask.to(device))
