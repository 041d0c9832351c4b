"""Log-probabilities of single tokens with an exact normaliser, without a tensor of positions x vocabulary.

The head runs on tiles of positions and vocabulary, small enough for the processor's cache; the log-sum-exps of the
tiles are combined into that of the full vocabulary.

Shapes: N positions, D hidden size, P predictions, V vocabulary.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from kamerton.model.head import Head

_POSITIONS = 512
_TILE = {"cpu": 4096}  # tokens of the vocabulary, by type of device
_DEFAULT_TILE = 65536


def token_logprobs(head: Head, hidden: Tensor, at: Tensor, token: Tensor, judged: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each prediction p log p(token[p]) in nats at `hidden[at[p]]`, and whether no token is more likely.

    `hidden` is (N, D), the other arguments (P,). The second result is only computed for `judged` predictions, False
    otherwise. Log-probabilities are clipped to at most 0, against rounding.
    """
    order = torch.argsort(at, stable=True)
    bounds = torch.arange(0, len(hidden) + _POSITIONS, _POSITIONS, device=at.device)
    cuts = torch.searchsorted(at[order], bounds).tolist()
    logprob = torch.empty(len(at), dtype=torch.float32, device=at.device)
    best = torch.zeros(len(at), dtype=torch.bool, device=at.device)
    for number, (start, end) in enumerate(pairwise(cuts)):
        if start < end:
            tile = order[start:end]
            begin = number * _POSITIONS
            states = hidden[begin : begin + _POSITIONS]
            logprob[tile], best[tile] = _tile_logprobs(head, states, at[tile] - begin, token[tile], judged[tile])
    return logprob, best


def _tile_logprobs(head: Head, hidden: Tensor, at: Tensor, token: Tensor, judged: Tensor) -> tuple[Tensor, Tensor]:
    """Return the results of `token_logprobs` for one tile of positions, one tile of the vocabulary at a time."""
    rows = at[judged]
    token_logits = torch.empty(len(at), dtype=torch.float32, device=at.device)
    sums, tops = [], []
    parts: list[slice | None] = [None]
    if head.linear is not None:
        size, vocabulary = _TILE.get(hidden.device.type, _DEFAULT_TILE), head.vocabulary
        parts = [slice(start, min(start + size, vocabulary)) for start in range(0, vocabulary, size)]
    for part in parts:
        logits = head.logits(hidden, part)
        start, end = (0, logits.shape[-1]) if part is None else (part.start, part.stop)
        inside = (token >= start) & (token < end)
        token_logits[inside] = logits[at[inside], token[inside] - start]
        if len(rows):
            values, indices = logits[rows].max(dim=-1)
            tops.append((values, indices + start))
        largest = logits.amax(dim=-1, keepdim=True)
        sums.append(logits.sub_(largest).exp_().sum(dim=-1).log_() + largest[:, 0])
    normaliser = torch.stack(sums).double().logsumexp(dim=0)
    logprob = (token_logits.double() - normaliser[at]).clamp_(max=0).float()
    best = torch.zeros_like(judged)
    if len(rows):
        values, indices = (torch.stack(list(part)) for part in zip(*tops, strict=True))
        first = values.max(dim=0).indices  # the first one of a tie, as argmax over the full vocabulary
        best[judged] = indices.gather(0, first[None])[0] == token[judged]
    return logprob, best
