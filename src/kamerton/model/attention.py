"""The tree's attention function, which transformers calls in every layer of a model set to `kamerton_tree`.

On a CPU each block of the tree is one call of scaled dot-product attention over its visible keys and itself; on a GPU
the whole row is one call of `flex_attention`, which skips empty blocks of the mask.

Shapes: T tokens of the row, H query heads, K key heads, D head dimension.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import AttentionInterface, AttentionMaskInterface

from kamerton.model.tree import Tree
from kamerton.model.tree_cpu import cpu_tree, flash, visible
from kamerton.model.tree_memory import Following, Recorded

ATTENTION = "kamerton_tree"
_TILE = 128  # flex_attention's own block size


class UnsupportedAttentionError(RuntimeError):
    """The model needs a form of attention that the tree does not support: its rows must be padded."""


def register_attention() -> None:
    """Make `attn_implementation="kamerton_tree"` known to transformers."""
    AttentionInterface.register(ATTENTION, tree_attention)
    AttentionMaskInterface.register(ATTENTION, _no_mask)


def tree_attention(  # noqa: PLR0913, PLR0917 - transformers' own signature, and `tree`
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    tree: Tree | Recorded | Following | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend from every token to its ancestors and itself, within `sliding_window`, with scores bounded by `softcap`.

    `query` is (1, H, T, D), `key` and `value` (1, K, T, D); returns (1, T, H, D) as transformers expects. Raises
    `UnsupportedAttentionError` for attention sinks and position biases.
    """
    if tree is None:
        raise RuntimeError(f"{ATTENTION} attention was called without a tree; use sdpa for plain forward passes")
    if s_aux is not None or position_bias is not None:
        raise UnsupportedAttentionError("attention sinks or position biases")
    query, key, value = _in_one_format(query, key, value)
    if isinstance(tree, Following):
        return _follow(module, query, key, value, tree, sliding_window, scaling, softcap), None
    if isinstance(tree, Recorded):
        tree.memory.kept[module] = key, value
        tree = tree.tree
    if query.is_cuda and dropout == 0.0:
        return flex_tree(query, key, value, tree, sliding_window, scaling, softcap).transpose(1, 2), None
    if query.device.type == "cpu" and dropout == 0.0 and softcap is None:
        return cpu_tree(query, key, value, tree, sliding_window, scaling), None
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    parts = [
        _attend(
            query[:, :, block.start : block.end],
            visible(key, block),
            visible(value, block),
            block.mask,
            dropout,
            scaling,
            softcap,
        )
        for block in tree.within(sliding_window)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def flex_tree(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tree: Tree,
    window: int | None,
    scaling: float | None,
    softcap: float | None,
) -> Tensor:
    """Compute the tree's attention as one call of `flex_attention`, compiled on a GPU: (1, H, T, D)."""
    size = query.shape[2]
    extra = -size % _TILE
    query, key, value = (F.pad(states, (0, 0, 0, extra)) for states in (query, key, value))

    def bounded(score: Tensor, *_: Tensor) -> Tensor:
        assert softcap is not None
        return softcap * torch.tanh(score / softcap)

    out = (_compiled() if query.is_cuda else flex_attention)(
        query,
        key,
        value,
        score_mod=None if softcap is None else bounded,
        block_mask=_block_mask(tree, window, query.device),
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(out, Tensor)
    return out[:, :, :size]


def _block_mask(tree: Tree, window: int | None, device: torch.device) -> BlockMask:
    """Return the tree's mask; padding tokens of the last tile see only themselves."""
    if ("flex", window) not in tree.cache:
        size = len(tree.reach)
        filled = size + -size % _TILE
        positions = _on(np.concatenate([tree.positions, np.zeros(filled - size, dtype=np.int64)]), device)
        reach = _on(np.concatenate([tree.reach, np.arange(size, filled) + 1]), device)

        def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            seen = (key <= query) & (query < reach[key])
            return seen if window is None else seen & (positions[query] - positions[key] < window)

        compiled = device.type == "cuda"  # uncompiled, the full mask is built first
        tree.cache["flex", window] = create_block_mask(sees, None, None, filled, filled, str(device), _compile=compiled)
    return tree.cache["flex", window]  # type: ignore[no-any-return]


@lru_cache(maxsize=1)
def _compiled() -> Any:
    return torch.compile(flex_attention)


def _follow(
    layer: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tree: Following,
    window: int | None,
    scaling: float | None,
    softcap: float | None,
) -> Tensor:
    """Attend from new tokens to the kept tokens of their sequence and to each other: (1, T, H, D)."""
    query, key, value = tree.padded(query), tree.padded(key), tree.padded(value)
    key, value = tree.memory.extend(layer, key, value)
    if query.device.type == "cpu" and softcap is None:
        return tree.packed(flash(query, key, value, tree.bias(window, query.dtype), scaling))
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    return tree.packed(_attend(query, key, value, tree.within(window), 0.0, scaling, softcap))


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    scaling: float | None,
    softcap: float | None,
) -> Tensor:
    if softcap is None:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scaling
        )
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if mask is None:
        mask = torch.ones(scores.shape[2:], dtype=torch.bool, device=scores.device).tril()
    scores = (softcap * torch.tanh(scores / softcap)).masked_fill(~mask, -torch.inf)
    weights = F.dropout(scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype), dropout)
    return weights @ value


def _in_one_format(*states: Tensor) -> tuple[Tensor, ...]:
    """Convert to the format of autocast, which rounds projections but not rotations; attention needs one format."""
    device = states[0].device.type
    if not torch.is_autocast_enabled(device):
        return states
    return tuple(part.to(torch.get_autocast_dtype(device)) for part in states)


def _no_mask(*_: Any, config: Any = None, local_size: int | None = None, use_vmap: bool = False, **__: Any) -> None:
    """Return no mask, because the tree is the mask; windows are passed to the attention function, others rejected."""
    if use_vmap or local_size not in (None, getattr(config, "sliding_window", None)):
        raise UnsupportedAttentionError("a custom mask")


def _on(values: Any, device: torch.device) -> Tensor:
    return torch.from_numpy(values).to(device)
