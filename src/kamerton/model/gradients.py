"""Gradients of weights that stay in one place: each pass computes its share straight into it.

By default every backward pass makes new matrices, and from a step's second pass on adds each to the first one's: a
temporary as large as the weight, and one more trip over both. Freed after every step, they also leave a heap full of
holes that what comes next does not fit into.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

_kept: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # weight → the memory of its gradient, None before the first


def keep_gradients(weights: Iterable[Tensor]) -> None:
    """From now on the kernels set `weight.grad` themselves, in memory that outlives `weight.grad = None`.

    Nothing that waits for a gradient to arrive (hooks, DDP, `torch.autograd.grad`) sees those of such weights.
    """
    for weight in weights:
        _kept[weight] = None


def release_gradients(weights: Iterable[Tensor]) -> None:
    """Undo `keep_gradients`."""
    for weight in weights:
        _kept.pop(weight, None)


def weight_gradient(weight: Tensor, grad: Tensor, x: Tensor) -> Tensor | None:
    """The gradient of `weight` (out, in) in `x W'`, from that of the output (T, out) and x (T, in).

    None for a weight whose gradient is kept: it is in `weight.grad` already.
    """
    if weight not in _kept:
        return grad.t() @ x
    if weight.grad is None:
        weight.grad = torch.mm(grad.t(), x, out=_kept[weight])
        _kept[weight] = weight.grad
    else:
        weight.grad.addmm_(grad.t(), x)
    return None
