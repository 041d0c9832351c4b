"""Capability checks on a few tokens: is the loss plain cross-entropy, and which batch layouts are supported?"""

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
from kamerton.model.layers import base_of
from kamerton.model.loss import build_padded, predict
from kamerton.model.matmul import exact_products
from kamerton.model.tree import build_row
from kamerton.plan.packing import Packing

_PREFIX, _SUFFIXES = 8, (7, 1, 12, 4)  # tokens of the sample's rows
Rows = list[npt.NDArray[np.int32]]
Marks = list[npt.NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class PackingChoice:
    """The batch layout that a model supports; `reason` is why it differs from the configured one."""

    packing: Packing
    reason: str | None = None


def check_loss(model: nn.Module) -> None:
    """Compare the training loss with the model's own loss on a sample.

    Raises `UserError` if they differ: the model's own loss is then not only that of the next token.
    """
    rows, marks = _sample(model)
    with _evaluation_mode(model):
        batch = build_padded(rows, marks, pad=0).to(_device(model))
        labels = torch.full_like(batch.attention_mask, -100)
        labels[batch.sequence, batch.at] = batch.token
        # The model shifts labels itself: the label of position t is the token at t + 1.
        ids = torch.nn.functional.pad(batch.input_ids, (0, 1))
        mask = torch.nn.functional.pad(batch.attention_mask, (0, 1))
        shifted = torch.nn.functional.pad(labels, (1, 0), value=-100)
        model_loss = float(model(input_ids=ids, attention_mask=mask, labels=shifted, use_cache=False).loss)
        training_loss = float(predict(model, batch).nll.mean())
    if not abs(model_loss - training_loss) <= _tolerance(model) * max(1.0, abs(model_loss)):
        name = type(base_of(model)).__name__
        message = f"the loss of {name} is {model_loss:.5f}, but the mean over target tokens is {training_loss:.5f}"
        fix = "its training objective is not only the next token: choose another model, or report this one"
        raise UserError([Fault("model.loss", message, fix, column="model.name")])


def choose_packing(model: nn.Module, packing: Packing, *, dropout: float = 0.0) -> PackingChoice:
    """Set the model's attention for `packing`; fall back to `padded` if that fails or changes its predictions.

    With dropout (the adapter's `dropout`, or the model's own) a shared prefix would have the same dropout mask for all
    its examples, so `tree` becomes `packed`.
    """
    if packing == "padded":
        return PackingChoice(packing)
    inner: Any = base_of(model)
    before = inner.config._attn_implementation
    problem = _packing_problem(inner)
    if problem is not None:
        inner.set_attn_implementation(before)
        return PackingChoice("padded", f"{type(inner).__name__} cannot run packed rows ({problem})")
    if packing == "tree" and (dropout > 0 or _has_dropout(inner)):
        return PackingChoice("packed", "with dropout, examples cannot share a prefix")
    return PackingChoice(packing)


def use_packing(model: nn.Module, packing: Packing) -> None:
    """Set the model's attention for a batch layout that `choose_packing` chose before."""
    if packing != "padded":
        register_attention()
        base_of(model).set_attn_implementation(ATTENTION)


def _packing_problem(inner: Any) -> str | None:
    """Run rows with a shared prefix padded and as a tree; return an error or a difference in words, None if equal."""
    rows, marks = _sample(inner)
    with _evaluation_mode(inner), exact_products():
        expected = predict(inner, build_padded(rows, marks, pad=0).to(_device(inner)))
        try:
            register_attention()
            inner.set_attn_implementation(ATTENTION)
            actual = predict(inner, build_row(rows, marks, share=True).to(_device(inner)))
        except Exception as error:  # a model's forward may raise anything; padded rows work in any case
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    largest = float((_in_order(actual.nll, actual.sequence) - _in_order(expected.nll, expected.sequence)).abs().max())
    if largest <= _tolerance(inner) * max(1.0, float(expected.nll.abs().max())):
        return None
    return f"the loss of a token differs by {largest:.2g}"


def _has_dropout(inner: nn.Module) -> bool:
    """Return whether two passes in training mode with different seeds differ."""
    rows, marks = _sample(inner)
    row = build_row(rows, marks, share=False).to(_device(inner))
    losses = []
    with _evaluation_mode(inner):
        inner.train()
        for seed in (0, 1):
            torch.manual_seed(seed)
            losses.append(predict(inner, row).nll)
    return not torch.equal(*losses)


def _sample(model: nn.Module) -> tuple[Rows, Marks]:
    """Return rows with a shared prefix, with targets in the prefix and after it; the same for every run."""
    rng = np.random.default_rng(0)
    size = int(base_of(model).get_input_embeddings().num_embeddings)
    prefix = rng.integers(1, size, _PREFIX)
    rows = [np.concatenate([prefix, rng.integers(1, size, suffix)]).astype(np.int32) for suffix in _SUFFIXES]
    return rows, [np.arange(len(row)) >= _PREFIX - 2 for row in rows]


def _in_order(nll: Tensor, sequence: Tensor) -> Tensor:
    return nll[torch.argsort(sequence, stable=True)]


def _tolerance(model: nn.Module) -> float:
    """Return the relative tolerance for rounding in the model's number format and another order of summation."""
    exact = next(model.parameters()).dtype in (torch.float32, torch.float64)
    return 1e-3 if exact else 0.1


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Run without dropout and gradients, and restore mode and random state afterwards."""
    training = model.training
    devices = [_device(model)] if _device(model).type == "cuda" else []
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            yield
    finally:
        model.train(training)
