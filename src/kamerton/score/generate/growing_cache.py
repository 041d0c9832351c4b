"""A key-value cache with spare room, so that a new token is written in place.

Transformers' dynamic cache copies all keys and values for every token.

Shapes: B rows, K key heads, L cached tokens, C tokens that fit (>= L), D head dimension.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

_SPARE = 64  # tokens of room that are added at once, at least


def grow_in_place(cache: Any) -> Any:
    """Give the layers of a dynamic cache spare room; layers of other kinds, and other caches, stay as they are."""
    if layers := getattr(cache, "layers", None):
        cache.layers = [_with_room(layer) if type(layer) is DynamicLayer else layer for layer in layers]
    return cache


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """A cache layer whose `keys` and `values` (B, K, L, D) are the filled parts of larger tensors (B, K, C, D)."""

    def __init__(self) -> None:
        super().__init__()
        self._room: tuple[Tensor, Tensor] | None = None
        self._filled: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append the states of new tokens; return those of all tokens."""
        if not self.is_initialized or not self.get_seq_length():
            super().update(key_states, value_states)
            return key_states, value_states
        size = self.get_seq_length()
        end = size + key_states.shape[2]
        room = self._current_room()
        if room is None or end > room[0].shape[2]:
            room = _copied(self.keys, end), _copied(self.values, end)
        for whole, states in zip(room, (key_states, value_states), strict=True):
            whole[:, :, size:end] = states
        return self._fill(room, end)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only these rows, with their room."""
        room = self._current_room()
        if room is None:
            super().batch_select_indices(indices)
        else:
            self._fill((room[0][indices], room[1][indices]), self.get_seq_length())

    def _current_room(self) -> tuple[Tensor, Tensor] | None:
        """Return the room of `keys` and `values`; None if there is none, or if others were put in their place."""
        return self._room if self._filled is not None and self.keys is self._filled[0] else None

    def _fill(self, room: tuple[Tensor, Tensor], size: int) -> tuple[Tensor, Tensor]:
        self._room = room
        self.keys, self.values = self._filled = room[0][:, :, :size], room[1][:, :, :size]
        return self._filled


def _with_room(layer: DynamicLayer) -> GrowingLayer:
    growing = GrowingLayer()
    if layer.is_initialized:
        growing.lazy_initialization(layer.keys, layer.values)
        growing.keys, growing.values = layer.keys, layer.values
    return growing


def _copied(states: Tensor, tokens: int) -> Tensor:
    """Copy states (B, K, L, D) to a tensor with room for `tokens` and a quarter more."""
    rows, heads, size, width = states.shape
    room = torch.empty(rows, heads, tokens + max(_SPARE, tokens // 4), width, dtype=states.dtype, device=states.device)
    room[:, :, :size] = states
    return room
