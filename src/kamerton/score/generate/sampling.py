"""Choose the next token, greedily or by sampling that does not depend on the batch.

A sampled token is drawn from the sorted distribution with a number from a hash of (seed, example, position).
Nucleus sampling: Holtzman et al. 2020, The Curious Case of Neural Text Degeneration.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kamerton.model.int8 import Quantize

_LIKELIEST = 256  # tokens that are sorted at first; sorting the whole vocabulary takes longer than the model


@dataclass(frozen=True, slots=True)
class Decoding:
    """Decoding parameters: greedy, or with `temperature` > 0 sampled from the nucleus of `top_p`.

    `logprobs`: answers have the log-probabilities of their tokens by the model, whatever the temperature and nucleus.
    `quantize` int8: new tokens are computed with weights of 8 bits (`model.int8`).
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    logprobs: bool = field(default=False, repr=False)  # not in the fingerprint of answers, which it does not change
    quantize: Quantize | None = field(default=None, repr=False)  # in the fingerprint only if set, as by older versions


def restrict(logits: Tensor, allowed: Sequence[Sequence[int] | None]) -> Tensor:
    """Set the logits (B, V) of tokens that are not `allowed` in a row to -inf; None allows all."""
    for row, tokens in enumerate(allowed):
        if tokens is not None:
            kept = torch.full_like(logits[row], -torch.inf)
            kept[list(tokens)] = logits[row, list(tokens)]
            logits[row] = kept
    return logits


def choose(logits: Tensor, decoding: Decoding, places: Sequence[tuple[str, int]]) -> list[int]:
    """Return a token for each row of logits (B, V); `places` are the example id and token position of each row."""
    if decoding.temperature == 0:
        return [int(token) for token in logits.argmax(dim=-1).tolist()]
    numbers = [uniform(decoding.seed, key, position) for key, position in places]
    drawn = torch.tensor(numbers, dtype=torch.float64, device=logits.device)[:, None]
    tokens, is_certain = _draw(logits, drawn, decoding, min(_LIKELIEST, logits.shape[-1]))
    rest = ~is_certain
    if bool(rest.any()):
        tokens[rest], _ = _draw(logits[rest], drawn[rest], decoding, logits.shape[-1])
    return [int(token) for token in tokens.tolist()]


def _draw(logits: Tensor, drawn: Tensor, decoding: Decoding, size: int) -> tuple[Tensor, Tensor]:
    """Return the tokens (B,) that numbers (B, 1) draw from the `size` likeliest, and whether all V give the same.

    Equally likely tokens are in the order of the vocabulary, so that the result does not depend on `size`.
    """
    order = logits.topk(size).indices.sort().values
    scaled = logits.double() / decoding.temperature
    likeliest = (scaled.gather(-1, order) - scaled.logsumexp(dim=-1, keepdim=True)).exp()
    likeliest, rank = likeliest.sort(dim=-1, descending=True, stable=True)
    cumulative = likeliest.cumsum(dim=-1)
    in_nucleus = cumulative - likeliest < decoding.top_p  # includes the token that reaches top_p
    nucleus = likeliest.where(in_nucleus, 0.0).cumsum(dim=-1)
    is_whole = decoding.top_p >= 1
    total = torch.ones_like(drawn) if is_whole and size < logits.shape[-1] else nucleus[:, -1:]
    place = (nucleus <= drawn * total).sum(dim=-1, keepdim=True).clamp(max=size - 1)
    is_certain = (~in_nucleus[:, -1:] | is_whole) & (likeliest.gather(-1, place) > likeliest[:, -1:])
    return order.gather(-1, rank.gather(-1, place))[:, 0], is_certain[:, 0]


def uniform(seed: int, key: str, position: int) -> float:
    """Return a pseudo-random number in [0, 1) that only depends on the arguments."""
    digest = hashlib.blake2b(f"{seed} {key} {position}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def token_logprobs(logits: Tensor, tokens: Sequence[int]) -> list[float]:
    """Return the log-probability, in nats, of a token in each row of logits (B, V)."""
    chosen = torch.tensor(tokens, device=logits.device)[:, None]
    return [float(value) for value in logits.double().log_softmax(dim=-1).gather(-1, chosen)[:, 0].tolist()]
