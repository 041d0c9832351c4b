"""Log-probabilities of single tokens with an exact normaliser, without a tensor of positions x vocabulary.

The head runs on a tile of some positions and a run of the vocabulary at a time, small enough to stay in the
processor's cache; the tiles' logarithms of summed exponentials are added up to that of the whole vocabulary.

Shapes: N positions, D hidden size, P predictions, V vocabulary.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from kamerton.model.head import Head

_POSITIONS = 512
_TILE = {"cpu": 4096}  # of the vocabulary
_WIDE = 65536


def token_logprobs(head: Head, hidden: Tensor, at: Tensor, token: Tensor, judged: Tensor) -> tuple[Tensor, Tensor]:
    """For each prediction p: log p(token[p]) in nats at `hidden[at[p]]`, and whether no token is more likely.

    `hidden` is (N, D), the rest (P,); the second answer is False where `judged` is. A log-probability is never above
    0, whatever rounding says.
    """
    order = torch.argsort(at, stable=True)
    bounds = torch.arange(0, len(hidden) + _POSITIONS, _POSITIONS, device=at.device)
    cuts = torch.searchsorted(at[order], bounds).tolist()
    logprob = torch.empty(len(at), dtype=torch.float32, device=at.device)
    best = torch.zeros(len(at), dtype=torch.bool, device=at.device)
    for number, (start, end) in enumerate(pairwise(cuts)):
        if start < end:
            ours = order[start:end]
            begin = number * _POSITIONS
            states = hidden[begin : begin + _POSITIONS]
            logprob[ours], best[ours] = _of_some(head, states, at[ours] - begin, token[ours], judged[ours])
    return logprob, best


def _of_some(head: Head, hidden: Tensor, at: Tensor, token: Tensor, judged: Tensor) -> tuple[Tensor, Tensor]:
    rows = at[judged]
    wanted = torch.empty(len(at), dtype=torch.float32, device=at.device)
    sums, tops = [], []
    for part in _parts(head, hidden.device):
        logits = head.logits(hidden, part)
        start, end = (0, logits.shape[-1]) if part is None else (part.start, part.stop)
        inside = (token >= start) & (token < end)
        wanted[inside] = logits[at[inside], token[inside] - start]
        if len(rows):
            values, indices = logits[rows].max(dim=-1)
            tops.append((values, indices + start))
        largest = logits.amax(dim=-1, keepdim=True)
        sums.append(logits.sub_(largest).exp_().sum(dim=-1).log_() + largest[:, 0])
    normaliser = torch.stack(sums).double().logsumexp(dim=0)
    logprob = (wanted.double() - normaliser[at]).clamp_(max=0).float()
    best = torch.zeros_like(judged)
    if len(rows):
        values, indices = (torch.stack(list(part)) for part in zip(*tops, strict=True))
        first = values.max(dim=0).indices  # of equal ones the first, as argmax over the whole
        best[judged] = indices.gather(0, first[None])[0] == token[judged]
    return logprob, best


def _parts(head: Head, device: torch.device) -> list[slice | None]:
    if head.linear is None:
        return [None]
    size, vocabulary = _TILE.get(device.type, _WIDE), head.vocabulary
    return [slice(start, min(start + size, vocabulary)) for start in range(0, vocabulary, size)]
