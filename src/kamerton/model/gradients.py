"""Accumulating gradients in place: every pass of a step adds to the existing gradient of a weight.

By default a pass creates a new matrix, and autograd adds it to that of the passes before: a temporary as large as the
weight, and one more pass over both.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from kamerton.model.matmul import weight_product

_in_place: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # as a set of weights


def add_in_place(weights: Iterable[Tensor]) -> None:
    """Let the kernels set and accumulate `weight.grad` themselves.

    Gradients of such weights bypass hooks, DDP and `torch.autograd.grad`.
    """
    for weight in weights:
        _in_place[weight] = True


def leave_to_autograd(weights: Iterable[Tensor]) -> None:
    """Undo `add_in_place`."""
    for weight in weights:
        if weight in _in_place:
            del _in_place[weight]


def weight_gradient(weight: Tensor, grad: Tensor, x: Tensor) -> Tensor | None:
    """Return the gradient of `weight` (out, in) in `x W'`, from that of the output (T, out) and x (T, in).

    For weights with in-place accumulation it is added to `weight.grad`, and None is returned.
    """
    if weight not in _in_place:
        return weight_product(grad, x, weight)
    weight.grad = weight_product(grad, x, weight, weight.grad)
    return None
