"""The lean loss: hidden states → target positions → head on those only → negative log-likelihood.

A completion is a few tokens of a row, the vocabulary tens of thousands: running the head on target positions only
saves most of its work, and per-token losses come out of the same pass. Sums, never means: the caller divides by the
target tokens of the whole optimizer step, so the batch layout never changes the loss.

Shapes: B rows, L padded length, C distinct predicting positions, P predictions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kamerton.model.head import Head, find_head
from kamerton.model.kernels import token_loss
from kamerton.model.liger import liger_head, liger_loss
from kamerton.model.tree import TreeRow

LOGITS = 2**25  # of one chunk: 128 MiB in float32


@dataclass(frozen=True, slots=True)
class PaddedRows:
    """Rows padded to the same length: the reference layout that the others are tested against."""

    input_ids: Tensor  # (B, L)
    attention_mask: Tensor  # (B, L)
    at: Tensor  # (P,) positions in a row
    token: Tensor  # (P,)
    sequence: Tensor  # (P,) rows

    def to(self, device: torch.device) -> PaddedRows:
        """Return the same rows on another device."""
        parts = (self.input_ids, self.attention_mask, self.at, self.token, self.sequence)
        return PaddedRows(*(part.to(device) for part in parts))


@dataclass(frozen=True, slots=True)
class Predictions:
    """For each predicted token: its negative log-likelihood in nats, and the most likely token.

    `loss` is the training loss: `nll`, with label smoothing if configured.
    """

    nll: Tensor  # (P,) float32
    loss: Tensor  # (P,) float32
    predicted: Tensor  # (P,) the most likely token
    token: Tensor  # (P,) the true one
    sequence: Tensor  # (P,), predictions of a sequence are consecutive and in order

    @property
    def correct(self) -> Tensor:
        """The mask of predictions whose most likely token is the true one: (P,) bool."""
        return self.predicted == self.token


def build_padded(
    sequences: Sequence[npt.NDArray[np.int32]], targets: Sequence[npt.NDArray[np.bool_]], *, pad: int
) -> PaddedRows:
    """Return rows padded on the right with `pad`, which is neither attended to nor predicted.

    The last column is not an input, because nothing follows it.
    """
    longest = max(len(sequence) for sequence in sequences)
    ids = np.full((len(sequences), longest), pad, dtype=np.int64)
    mask = np.zeros((len(sequences), longest), dtype=np.int64)
    is_target = np.zeros((len(sequences), longest), dtype=bool)
    for row, (sequence, target) in enumerate(zip(sequences, targets, strict=True)):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
        is_target[row, : len(target)] = target
    rows, columns = np.nonzero(is_target)
    parts = (ids[:, :-1], mask[:, :-1], columns - 1, ids[rows, columns], rows)
    return PaddedRows(*(torch.from_numpy(np.ascontiguousarray(part)) for part in parts))


def predict(model: nn.Module, batch: TreeRow | PaddedRows, *, label_smoothing: float = 0.0) -> Predictions:
    """Run one micro-batch; the model's own forward applies its head, including scaling and soft-capping.

    If there would be more logits than `LOGITS`, the head runs on the target positions a chunk at a time, and again in
    the backward pass, so that memory does not grow with targets x vocabulary. For models with `use_liger`, Liger's
    kernel computes the loss, except with label smoothing.

    `label_smoothing` e mixes the target with the uniform distribution: (1 - e) nll + e mean over V of -log p
    (Szegedy et al. 2016, and torch's cross_entropy).
    """
    columns, inverse = torch.unique(batch.at, return_inverse=True)
    if isinstance(batch, TreeRow):
        layout = {"position_ids": batch.position_ids, "tree": batch.tree}
        rows = torch.zeros_like(inverse)
    else:
        layout = {"attention_mask": batch.attention_mask}
        rows = batch.sequence
    head = None if label_smoothing else liger_head(model)
    if head is not None:
        hidden = head.hidden(input_ids=batch.input_ids, **layout)
        nll, predicted = liger_loss(head, hidden[rows, batch.at], batch.token)
        return Predictions(nll, nll, predicted, batch.token, batch.sequence)
    head = find_head(model)
    if head is not None and len(batch.input_ids) * len(columns) * head.vocabulary > LOGITS:
        hidden = head.hidden(input_ids=batch.input_ids, **layout)
        nll, loss, predicted = _in_chunks(head, hidden[rows, batch.at], batch.token, label_smoothing)
        return Predictions(nll, loss, predicted, batch.token, batch.sequence)
    logits = model(input_ids=batch.input_ids, logits_to_keep=columns, use_cache=False, **layout).logits
    row = rows * logits.shape[1] + inverse
    scored = _score(logits.float().flatten(0, 1), row, batch.token, label_smoothing)
    return Predictions(*scored, batch.token, batch.sequence)


def plain_loss(head: Head, hidden: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
    """Return nll and most likely tokens for `hidden` (P, D), as `predict` computes them without Liger's kernel."""
    if len(hidden) * head.vocabulary > LOGITS:
        nll, _, predicted = _in_chunks(head, hidden, token, 0.0)
    else:
        nll, _, predicted = _score_each(head, hidden, token, 0.0)
    return nll, predicted


def _in_chunks(head: Head, hidden: Tensor, token: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return nll, loss and most likely token of the predictions from `hidden` (P, D), computed in chunks."""
    size = max(1, LOGITS // head.vocabulary)
    pieces = ((hidden[at : at + size], token[at : at + size]) for at in range(0, len(hidden), size))
    score = partial(_score_each, head, label_smoothing=label_smoothing)
    # Nothing is random here, so there is no random state to preserve for the second pass.
    parts = [checkpoint(score, *piece, use_reentrant=False, preserve_rng_state=False) for piece in pieces]
    nll, loss, predicted = (torch.cat(part) for part in zip(*parts, strict=True))
    return nll, loss, predicted


def _score_each(head: Head, hidden: Tensor, token: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor, Tensor]:
    return _score(head.logits(hidden), torch.arange(len(token), device=token.device), token, label_smoothing)


def _score(logits: Tensor, row: Tensor, token: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return nll, loss and most likely token of each prediction p, which reads `logits[row[p]]` of (N, V)."""
    nll, loss = token_loss(logits, row, token, label_smoothing)
    return nll, loss, logits.detach().argmax(dim=-1)[row]
