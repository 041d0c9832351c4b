"""Gradients of weights to which every further pass of a step adds its share where they are.

By default a pass makes a new matrix, and autograd adds it to the one of the passes before: a temporary as large as the
weight, and one more trip over both.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

_in_place: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # as a set of weights


def add_in_place(weights: Iterable[Tensor]) -> None:
    """From now on the kernels set and add to `weight.grad` themselves.

    Nothing that waits for a gradient to arrive (hooks, DDP, `torch.autograd.grad`) sees those of such weights.
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

    None where the kernels add in place: then it is in `weight.grad` already.
    """
    if weight not in _in_place:
        return grad.t() @ x
    if weight.grad is None:
        weight.grad = grad.t() @ x
    else:
        weight.grad.addmm_(grad.t(), x)
    return None
