"""Choose the next token: the most likely one, or one that is sampled, the same way for any batch.

A sampled token is drawn by one number that a hash of (seed, example, position) gives, from the sorted distribution
(nucleus sampling: Holtzman et al. 2020, The Curious Case of Neural Text Degeneration).

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Decoding:
    """How tokens are chosen: the most likely one, or with `temperature` > 0 sampled from the nucleus of `top_p`."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


def restrict(logits: Tensor, allowed: Sequence[Sequence[int] | None]) -> Tensor:
    """Logits (B, V) in which each row's `allowed` tokens alone are possible; None: all are."""
    for row, tokens in enumerate(allowed):
        if tokens is not None:
            kept = torch.full_like(logits[row], -torch.inf)
            kept[list(tokens)] = logits[row, list(tokens)]
            logits[row] = kept
    return logits


def choose(logits: Tensor, decoding: Decoding, places: Sequence[tuple[str, int]]) -> list[int]:
    """A token for each row of logits (B, V); `places` are its example's id and the position of the token."""
    if decoding.temperature == 0:
        return [int(token) for token in logits.argmax(dim=-1).tolist()]
    likely, order = (logits.double() / decoding.temperature).softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    reached = likely.cumsum(dim=-1)
    likely = likely.where(reached - likely < decoding.top_p, 0.0)  # the token that reaches top_p is still in
    reached = likely.cumsum(dim=-1)
    numbers = [uniform(decoding.seed, key, position) for key, position in places]
    aim = torch.tensor(numbers, dtype=torch.float64, device=logits.device)[:, None] * reached[:, -1:]
    place = (reached <= aim).sum(dim=-1, keepdim=True).clamp(max=order.shape[-1] - 1)
    return [int(token) for token in order.gather(-1, place)[:, 0].tolist()]


def uniform(seed: int, key: str, position: int) -> float:
    """A number in [0, 1) that depends on the three alone."""
    digest = hashlib.blake2b(f"{seed} {key} {position}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53
