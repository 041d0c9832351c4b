"""Read the prompts of a batch as one tree, so that a prefix shared by several of them runs once.

Prompts of one task often begin alike: a system turn, function definitions, or the same prompt sampled several times.
The keys and values of the tree's tokens are then copied into a padded batch, and decoding continues as usual.

Shapes: B prompts, L tokens of the longest one, T tokens of the tree, K key heads, D head dimension, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from kamerton.model.attention import ATTENTION
from kamerton.model.layers import base_of
from kamerton.model.tree import build_row


def reads_trees(model: Any) -> bool:
    """Return whether the model's attention is set to the tree's."""
    return bool(base_of(model).config._attn_implementation == ATTENTION)


def read_tree(
    model: Any, prompts: Sequence[npt.NDArray[np.int32]], device: torch.device
) -> tuple[Tensor, DynamicCache, Tensor]:
    """Return the logits (B, V) after each prompt, its cache, and the mask (B, L) of a batch padded on the left.

    The model's attention must be the tree's.
    """
    sequences = [np.append(prompt, 0) for prompt in prompts]  # the last token of a sequence is not an input
    row = build_row(sequences, [np.arange(len(sequence)) > 0 for sequence in sequences], share=True).to(device)
    longest = max(map(len, prompts))
    places = torch.zeros(len(prompts), longest, dtype=torch.long, device=device)
    mask = torch.zeros_like(places)
    for index, path in enumerate(torch.split(row.at, [len(prompt) for prompt in prompts])):
        places[index, longest - len(path) :] = path
        mask[index, longest - len(path) :] = 1
    columns, last = torch.unique(places[:, -1], return_inverse=True)
    output = model(
        input_ids=row.input_ids,
        position_ids=row.position_ids,
        tree=row.tree,
        past_key_values=DynamicCache(),
        use_cache=True,
        logits_to_keep=columns,
    )
    cache = DynamicCache(config=base_of(model).config)
    for index, layer in enumerate(output.past_key_values.layers):
        keys, values = (states[0][:, places].transpose(0, 1) for states in (layer.keys, layer.values))  # (B, K, L, D)
        cache.update(keys, values, index)
    return output.logits[0, last].float(), cache, mask


@contextmanager
def cached_attention(model: nn.Module) -> Iterator[None]:
    """Set attention with a cache in place of the tree's, and restore it at the end."""
    inner = base_of(model)
    if not reads_trees(model):
        yield
        return
    try:
        inner.set_attn_implementation("sdpa")
    except ValueError:  # not supported by the model
        inner.set_attn_implementation("eager")
    try:
        yield
    finally:
        inner.set_attn_implementation(ATTENTION)
