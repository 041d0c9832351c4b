"""A key-value cache for tree rows, so that sequences of a row can be continued in later passes.

A first pass runs a tree and records the keys and values of each layer. `Memory.spread` selects from them the tokens
that each of R sequences sees. In a later pass new tokens follow each sequence: they run through the model packed in one
row, and through attention as a padded batch, because the cache is laid out by sequence.

Shapes: R sequences, S cached tokens of the longest, Q new tokens of the longest, T new tokens in all, K key heads,
D head dimension.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kamerton.model.tree import Tree


class Memory:
    """Each layer's keys and values: (1, K, T, D) as recorded, (R, K, S, D) once they are spread."""

    def __init__(self) -> None:
        self.kept: dict[Any, tuple[Tensor, Tensor]] = {}

    def spread(self, places: Tensor) -> None:
        """Lay out the recorded row by sequence; `places` (R, S) are positions in the row."""
        for layer, states in self.kept.items():
            key, value = (state[0].transpose(0, 1)[places].transpose(1, 2).contiguous() for state in states)
            self.kept[layer] = key, value

    def select(self, rows: Tensor) -> None:
        """Keep only these sequences."""
        for layer, (key, value) in self.kept.items():
            self.kept[layer] = key[rows], value[rows]

    def extend(self, layer: Any, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append `key` and `value` (R, K, Q, D) to the cache of a layer, and return all of it."""
        old_key, old_value = self.kept[layer]
        self.kept[layer] = torch.cat([old_key, key], dim=2), torch.cat([old_value, value], dim=2)
        return self.kept[layer]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A tree whose keys and values are recorded in `memory`."""

    tree: Tree
    memory: Memory


@dataclass(frozen=True, slots=True)
class Following:
    """New tokens after those in `memory`: token t is at `column[t]` of sequence `row[t]`."""

    memory: Memory
    row: Tensor  # (T,)
    column: Tensor  # (T,)
    place: Tensor  # (R, Q) index t of each new token; arbitrary in the padding
    mask: Tensor  # (R, Q, S + Q) the attention mask without a window
    positions: Tensor  # (R, S + Q) within the sequence; the last Q are the new tokens'
    cache: dict[Any, Tensor] = field(default_factory=dict, compare=False, repr=False)

    def padded(self, states: Tensor) -> Tensor:
        """Convert a packed row to a padded batch: (1, H, T, D) → (R, H, Q, D)."""
        return states[0][:, self.place].transpose(0, 1)

    def packed(self, states: Tensor) -> Tensor:
        """Convert a padded batch to a packed row: (R, H, Q, D) → (1, T, H, D)."""
        return states.transpose(1, 2)[self.row, self.column][None]

    def within(self, window: int | None) -> Tensor:
        """Return the mask of a layer with a window of `window` positions, itself included: (R, 1, Q, S + Q)."""
        if window not in self.cache:
            seen = self.mask
            if window is not None:
                new = self.positions[:, -seen.shape[1] :, None]
                seen = seen & (new - self.positions[:, None] < window)
            self.cache[window] = seen[:, None]
        return self.cache[window]

    def bias(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """Return the mask in the form that is added to scores: 0 or -inf."""
        if (window, dtype) not in self.cache:
            mask = self.within(window)
            self.cache[window, dtype] = torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -torch.inf)
        return self.cache[window, dtype]
