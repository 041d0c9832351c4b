"""What a model can do, found out on a few tokens before a run: whose loss it computes, and which cut it bears."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kamerton.errors import Fault, UserError
from kamerton.model.attention import ATTENTION, register_attention
from kamerton.model.loss import build_padded, predict
from kamerton.model.parts import base_of
from kamerton.model.tree import build_row
from kamerton.plan.packing import Packing

_SHARED, _OWN = 8, (7, 1, 12, 4)
Rows = list[npt.NDArray[np.int32]]
Marks = list[npt.NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Usable:
    """The cut that a model bears; `reason` says why it is not the one that was asked for."""

    packing: Packing
    reason: str | None = None


def check_loss(model: nn.Module) -> None:
    """Compare the loss that training will compute with the model's own, once.

    Raises `UserError` when they differ: the model's own loss then is more than that of the next token.
    """
    rows, marks = _sample(model)
    with _quietly(model):
        batch = build_padded(rows, marks, pad=0).to(_device(model))
        labels = torch.full_like(batch.attention_mask, -100)
        labels[batch.sequence, batch.at] = batch.token
        # The model shifts labels itself: the token after position t stands at t + 1.
        ids = torch.nn.functional.pad(batch.input_ids, (0, 1))
        mask = torch.nn.functional.pad(batch.attention_mask, (0, 1))
        shifted = torch.nn.functional.pad(labels, (1, 0), value=-100)
        own = float(model(input_ids=ids, attention_mask=mask, labels=shifted, use_cache=False).loss)
        ours = float(predict(model, batch).nll.mean())
    if not abs(own - ours) <= _tolerance(model) * max(1.0, abs(own)):
        name = type(base_of(model)).__name__
        message = f"the loss of {name} is {own:.5f} where the mean over target tokens is {ours:.5f}"
        fix = "its training objective is not the next token alone: choose another model, or report this one"
        raise UserError([Fault("model.loss", message, fix, column="model.name")])


def choose_packing(model: nn.Module, packing: Packing, *, dropout: float = 0.0) -> Usable:
    """Set the model's attention to what `cut` needs; where that changes its predictions, fall back to `padded`.

    With dropout (the adapter's `dropout`, or the model's own) a prefix that is computed once would be dropped the same
    way for all its examples, so `tree` becomes `packed`.
    """
    if packing == "padded":
        return Usable(packing)
    inner: Any = base_of(model)
    before = inner.config._attn_implementation
    trouble = _trouble_with_rows(inner)
    if trouble is not None:
        inner.set_attn_implementation(before)
        return Usable("padded", f"{type(inner).__name__} cannot run packed rows ({trouble})")
    if packing == "tree" and (dropout > 0 or _has_dropout(inner)):
        return Usable("packed", "with dropout, examples cannot share a prefix")
    return Usable(packing)


def use_packing(model: nn.Module, packing: Packing) -> None:
    """Set the model's attention to what a cut needs that `choose_cut` has found usable for it before."""
    if packing != "padded":
        register_attention()
        base_of(model).set_attn_implementation(ATTENTION)


def _trouble_with_rows(inner: Any) -> str | None:
    """Run rows that share a prefix both ways; the difference, in words, if there is one."""
    rows, marks = _sample(inner)
    with _quietly(inner):
        expected = predict(inner, build_padded(rows, marks, pad=0).to(_device(inner)))
        try:
            register_attention()
            inner.set_attn_implementation(ATTENTION)
            found = predict(inner, build_row(rows, marks, share=True).to(_device(inner)))
        except Exception as error:  # whatever a foreign forward makes of it, the padded rows remain
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    largest = float((_in_order(found.nll, found.sequence) - _in_order(expected.nll, expected.sequence)).abs().max())
    if largest <= _tolerance(inner) * max(1.0, float(expected.nll.abs().max())):
        return None
    return f"the loss of a token differs by {largest:.2g}"


def _has_dropout(inner: nn.Module) -> bool:
    """Return whether two passes in training mode differ."""
    rows, marks = _sample(inner)
    row = build_row(rows, marks, share=False).to(_device(inner))
    with _quietly(inner):
        inner.train()
        first, second = (_seeded(inner, row, seed) for seed in (0, 1))
    return not torch.equal(first, second)


def _seeded(inner: nn.Module, row: Any, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return predict(inner, row).nll


def _sample(model: nn.Module) -> tuple[Rows, Marks]:
    """Return rows that begin alike, with targets inside the shared part and after it; the same for every run."""
    draw = np.random.default_rng(0)
    size = int(base_of(model).get_input_embeddings().num_embeddings)
    shared = draw.integers(1, size, _SHARED)
    rows = [np.concatenate([shared, draw.integers(1, size, own)]).astype(np.int32) for own in _OWN]
    return rows, [np.arange(len(row)) >= _SHARED - 2 for row in rows]


def _in_order(nll: Tensor, sequence: Tensor) -> Tensor:
    return nll[torch.argsort(sequence, stable=True)]


def _tolerance(model: nn.Module) -> float:
    """Return Relative: rounding in the model's number format, with room for another order of summation."""
    exact = next(model.parameters()).dtype in (torch.float32, torch.float64)
    return 1e-3 if exact else 0.1


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


@contextmanager
def _quietly(model: nn.Module) -> Iterator[None]:
    """Yield Without dropout, gradients, or a trace in the random state."""
    training = model.training
    devices = [_device(model)] if _device(model).type == "cuda" else []
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            yield
    finally:
        model.train(training)
