"""Decoding step by step: prompts are read in chunks, and the rows of one model take each token together.

Rows come and go between any two steps. Those of a batch are padded on the left; padding is never attended to, and
positions count from a row's own first token, so who else is in the batch changes a row's logits by rounding only.

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

from kamerton.score.generate.batched import forward
from kamerton.score.generate.sampling import Decoding, choose


@dataclass(slots=True)
class Row:
    """An answer on its way: its prompt's tokens, how tokens are chosen, how many it may have and has."""

    key: str
    prompt: Sequence[int]
    decoding: Decoding
    made: int = 0


@dataclass(slots=True)
class Reading:
    """A row whose prompt is being read: what is cached of it so far."""

    row: Row
    cache: Any = None
    done: int = 0

    @property
    def complete(self) -> bool:
        """Whether the whole prompt is read."""
        return self.done >= len(self.row.prompt)


@dataclass(slots=True)
class Batch:
    """Rows that take their steps together: `mask` (B, L) of what is cached of them, and the newest token of each."""

    rows: list[Row]
    cache: Any
    mask: Tensor
    newest: list[int]


def read(model: Any, reading: Reading, size: int, device: torch.device) -> Tensor:
    """Read at most `size` tokens more of a prompt; the logits after them (1, V)."""
    end = min(reading.done + size, len(reading.row.prompt))
    ids = torch.tensor([list(reading.row.prompt[reading.done : end])], device=device)
    positions = torch.arange(reading.done, end, device=device)[None]
    mask = torch.ones(1, end, dtype=torch.long, device=device)
    logits, reading.cache = _forward(model, ids, mask, positions, reading.cache)
    reading.done = end
    return logits


def begun(reading: Reading, token: int, device: torch.device) -> Batch:
    """A row whose prompt is read and whose first token is chosen, as a batch of its own."""
    return Batch([reading.row], reading.cache, torch.ones(1, reading.done, dtype=torch.long, device=device), [token])


def step(model: Any, batch: Batch) -> Tensor:
    """Let the newest token of each row in; the logits after it (B, V)."""
    ids = torch.tensor(batch.newest, device=batch.mask.device)[:, None]
    positions = batch.mask.sum(dim=1, keepdim=True)
    batch.mask = torch.cat([batch.mask, batch.mask.new_ones(len(batch.rows), 1)], dim=1)
    logits, batch.cache = _forward(model, ids, batch.mask, positions, batch.cache)
    return logits


def _forward(model: Any, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> tuple[Tensor, Any]:
    with torch.inference_mode():
        return forward(model, ids, mask, positions, cache)


def pick(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    """Each row's next token of logits (B, V); a sampled one depends on its own seed and position alone."""
    likely = logits.argmax(dim=-1).tolist()
    return [
        token if row.decoding.temperature == 0 else choose(one[None], row.decoding, [("", row.made)])[0]
        for token, one, row in zip(likely, logits, rows, strict=True)
    ]


def can_join(batch: Batch) -> bool:
    """Whether all that is cached is keys and values of every token: then rows of any length fit into one batch."""
    layers = getattr(batch.cache, "layers", None)
    return layers is not None and all(type(layer) is DynamicLayer for layer in layers)


def join(first: Batch, second: Batch) -> Batch:
    """The rows of two batches of one model as one batch."""
    longest = max(first.mask.shape[1], second.mask.shape[1])
    extra = [longest - batch.mask.shape[1] for batch in (first, second)]
    mask = torch.cat([F.pad(batch.mask, (more, 0)) for batch, more in zip((first, second), extra, strict=True)])
    for into, other in zip(first.cache.layers, second.cache.layers, strict=True):
        if into.is_initialized:
            into.keys = _stacked(into.keys, other.keys, extra)
            into.values = _stacked(into.values, other.values, extra)
    return Batch([*first.rows, *second.rows], first.cache, mask, [*first.newest, *second.newest])


def _stacked(first: Tensor, second: Tensor, extra: Sequence[int]) -> Tensor:
    """States (B, heads, L, size) of both, each with so much padding before it."""
    return torch.cat([F.pad(states, (0, 0, more, 0)) for states, more in zip((first, second), extra, strict=True)])


def keep(batch: Batch, left: Sequence[int]) -> Batch:
    """The batch with some of its rows alone, and without the padding that none of them needs."""
    at = torch.tensor(left, device=batch.mask.device)
    batch.cache.batch_select_indices(at)
    mask = batch.mask[at]
    spare = int(mask.any(dim=0).long().argmax())
    if spare and can_join(batch):
        mask = mask[:, spare:]
        for layer in batch.cache.layers:
            if layer.is_initialized:
                layer.keys, layer.values = layer.keys[:, :, spare:], layer.values[:, :, spare:]
    return Batch([batch.rows[i] for i in left], batch.cache, mask, [batch.newest[i] for i in left])
