"""Continuous batching: prompts are prefilled in chunks, and the rows of one model are decoded together.

Rows join and leave between any two steps. The rows of a batch are left-padded; padding is masked, and positions count
from a row's first token, so the other rows of the batch only change a row's logits by rounding.

Shapes: B rows, L cached tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.cache_utils import DynamicLayer

from kamerton.model.int8 import new_tokens
from kamerton.score.generate.batched import forward
from kamerton.score.generate.growing_cache import GrowingLayer, grow_in_place
from kamerton.score.generate.sampling import Decoding, choose
from kamerton.server.generation.constraint import Constraint


@dataclass(slots=True)
class Row:
    """An answer being generated: prompt tokens, decoding options (with the token limit), and tokens `made` so far.

    Its next token is one that `constraint` allows; None allows all.
    """

    key: str
    prompt: Sequence[int]
    decoding: Decoding
    made: int = 0
    constraint: Constraint | None = None


@dataclass(slots=True)
class Prefill:
    """A row whose prompt is being read: its cache and the number of tokens read."""

    row: Row
    cache: Any = None
    done: int = 0

    @property
    def complete(self) -> bool:
        """Whether the whole prompt has been read."""
        return self.done >= len(self.row.prompt)


@dataclass(slots=True)
class Batch:
    """Rows that are decoded together: the cache, its attention `mask` (B, L), and the newest token of each row."""

    rows: list[Row]
    cache: Any
    mask: Tensor
    newest: list[int]


def read(model: Any, prefill: Prefill, size: int, device: torch.device) -> Tensor:
    """Read up to `size` more tokens of a prompt; return the logits after them (1, V)."""
    end = min(prefill.done + size, len(prefill.row.prompt))
    ids = torch.tensor([list(prefill.row.prompt[prefill.done : end])], device=device)
    positions = torch.arange(prefill.done, end, device=device)[None]
    mask = torch.ones(1, end, dtype=torch.long, device=device)
    logits, prefill.cache = _forward(model, ids, mask, positions, prefill.cache)
    prefill.done = end
    return logits


def to_batch(prefill: Prefill, token: int, device: torch.device) -> Batch:
    """Return a batch of one row whose prompt has been read and whose first token is `token`."""
    cache = grow_in_place(prefill.cache)
    return Batch([prefill.row], cache, torch.ones(1, prefill.done, dtype=torch.long, device=device), [token])


def step(model: Any, batch: Batch) -> Tensor:
    """Run the model on the newest token of each row; return the logits after it (B, V)."""
    ids = torch.tensor(batch.newest, device=batch.mask.device)[:, None]
    positions = batch.mask.sum(dim=1, keepdim=True)
    batch.mask = torch.cat([batch.mask, batch.mask.new_ones(len(batch.rows), 1)], dim=1)
    with new_tokens():
        logits, batch.cache = _forward(model, ids, batch.mask, positions, batch.cache)
    return logits


def _forward(model: Any, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> tuple[Tensor, Any]:
    with torch.inference_mode():
        return forward(model, ids, mask, positions, cache)


def pick(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    """Choose each row's next token from logits (B, V); sampling depends only on the row's seed and position."""
    greedy = logits.argmax(dim=-1).tolist()
    return [
        token if row.decoding.temperature == 0 else choose(row_logits[None], row.decoding, [("", row.made)])[0]
        for token, row_logits, row in zip(greedy, logits, rows, strict=True)
    ]


def masked(logits: Tensor, rows: Sequence[Row]) -> Tensor:
    """Return logits (B, V) with -inf for the tokens that the constraint of a row does not allow."""
    constrained = [(i, row.constraint) for i, row in enumerate(rows) if row.constraint is not None]
    if not constrained:
        return logits
    logits = logits.clone()
    for i, constraint in constrained:
        allowed = constraint.allowed(logits.shape[1], logits.device)
        if allowed is not None:
            logits[i, ~allowed] = -torch.inf
    return logits


def can_join(batch: Batch) -> bool:
    """Return whether the cache has keys and values of every token, so that rows of any length can be joined."""
    layers = getattr(batch.cache, "layers", None)
    return layers is not None and all(type(layer) in {DynamicLayer, GrowingLayer} for layer in layers)


def join(first: Batch, second: Batch) -> Batch:
    """Combine two batches of the same model; the cache of `first` is extended in place."""
    longest = max(first.mask.shape[1], second.mask.shape[1])
    padding = [longest - batch.mask.shape[1] for batch in (first, second)]
    mask = torch.cat([F.pad(batch.mask, (size, 0)) for batch, size in zip((first, second), padding, strict=True)])
    for layer, other in zip(first.cache.layers, second.cache.layers, strict=True):
        if layer.is_initialized:
            layer.keys = _pad_and_stack(layer.keys, other.keys, padding)
            layer.values = _pad_and_stack(layer.values, other.values, padding)
    return Batch([*first.rows, *second.rows], first.cache, mask, [*first.newest, *second.newest])


def _pad_and_stack(first: Tensor, second: Tensor, padding: Sequence[int]) -> Tensor:
    """Stack states (B, heads, L, size) after left-padding each by its size in `padding`."""
    return torch.cat([F.pad(states, (0, 0, size, 0)) for states, size in zip((first, second), padding, strict=True)])


def keep(batch: Batch, kept: Sequence[int]) -> Batch:
    """Return the batch with only the rows `kept`, and without padding that none of them needs."""
    indices = torch.tensor(kept, device=batch.mask.device)
    batch.cache.batch_select_indices(indices)
    mask = batch.mask[indices]
    spare = int(mask.any(dim=0).long().argmax())
    if spare and can_join(batch):
        mask = mask[:, spare:]
        for layer in batch.cache.layers:
            if layer.is_initialized:
                layer.keys, layer.values = layer.keys[:, :, spare:], layer.values[:, :, spare:]
    return Batch([batch.rows[i] for i in kept], batch.cache, mask, [batch.newest[i] for i in kept])
