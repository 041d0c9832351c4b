"""The tree's attention on a CPU as one autograd function around torch's flash attention kernel.

With slices and concatenations, the backward pass would fill a tensor of the row's size with zeros for every slice, and
keys would be stored once for each query head. Here every block writes to its slice, and grouped heads stay grouped.

Shapes: T tokens of the row, H query heads, K key heads, D head dimension.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from kamerton.model.tree import Tree
from kamerton.model.tree_blocks import Block

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def cpu_tree(
    query: Tensor, key: Tensor, value: Tensor, tree: Tree, window: int | None, scaling: float | None
) -> Tensor:
    """Compute the tree's attention: `query` (1, H, T, D), `key` and `value` (1, K, T, D) → (1, T, H, D)."""
    blocks = tree.within(window)
    if ("bias", window, query.dtype) not in tree.cache:
        # The masks in the form that the kernel adds to scores; torch would convert them again in every layer.
        tree.cache["bias", window, query.dtype] = [
            None
            if block.mask is None
            else torch.zeros(block.mask.shape, dtype=query.dtype).masked_fill_(~block.mask, -torch.inf)
            for block in blocks
        ]
    biases = tree.cache["bias", window, query.dtype]
    return _Attention.apply(query, key, value, blocks, biases, scaling)  # type: ignore[no-any-return, no-untyped-call]


def flash(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scaling: float | None) -> Tensor:
    """Compute attention without gradient, also with fewer key heads; `bias` is added to scores (None: causal)."""
    out: Tensor = _forward(query, key, value, 0.0, bias is None, attn_mask=bias, scale=scaling)[0]
    return out


class _Attention(Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        blocks: tuple[Block, ...],
        biases: list[Tensor | None],
        scaling: float | None,
    ) -> Tensor:
        out = query.new_empty(1, query.shape[2], query.shape[1], value.shape[3])
        sums = []
        for block, bias in zip(blocks, biases, strict=True):
            rows = slice(block.start, block.end)
            seen = visible(key, block), visible(value, block)
            part, total = _forward(query[:, :, rows], *seen, 0.0, bias is None, attn_mask=bias, scale=scaling)
            out[:, rows] = part.transpose(1, 2)
            sums.append(total)
        ctx.blocks, ctx.biases, ctx.scaling = blocks, biases, scaling
        ctx.save_for_backward(query, key, value, out, *sums)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, *sums = ctx.saved_tensors
        of_query, of_key, of_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        for block, bias, total in zip(ctx.blocks, ctx.biases, sums, strict=True):
            rows = slice(block.start, block.end)
            of_out = grad[:, rows].transpose(1, 2)
            states = query[:, :, rows], visible(key, block), visible(value, block), out[:, rows].transpose(1, 2)
            parts = _backward(of_out, *states, total, 0.0, bias is None, attn_mask=bias, scale=ctx.scaling)
            of_query[:, :, rows] = parts[0]
            _spread(parts[1], of_key, block)
            _spread(parts[2], of_value, block)
        return of_query, of_key, of_value, None, None, None


def visible(states: Tensor, block: Block) -> Tensor:
    """Return the row's keys or values that a block sees, its own last, as one tensor: (1, K, seen, D)."""
    runs = [states[:, :, start:end] for start, end in (*block.seen, (block.start, block.end))]
    return torch.cat(runs, dim=2) if len(runs) > 1 else runs[0]


def _spread(grad: Tensor, row_grad: Tensor, block: Block) -> None:
    """Add the gradient of `visible` to that of the row, in place."""
    at = 0
    for start, end in (*block.seen, (block.start, block.end)):
        row_grad[:, :, start:end] += grad[:, :, at : at + end - start]
        at += end - start
