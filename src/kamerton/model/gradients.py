"""Gradients of the kernels: computed only if wanted, and accumulated in place.

Every pass of a step adds to the existing gradient of a weight. By default a pass creates a new matrix, and autograd
adds it to that of the passes before: a temporary as large as the weight, and one more pass over both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.utils.weak import WeakTensorKeyDictionary

from kamerton.model.matmul import weight_product


class _Forgetful:
    """Stands in for the context of a function whose backward pass will not run."""

    def save_for_backward(self, *_: Tensor | None) -> None:
        pass


def call(function: type[Function], *inputs: Any) -> Any:
    """Apply an autograd function; without gradients only its forward, which saves a third of a small operation."""
    if torch.is_grad_enabled():
        return function.apply(*inputs)  # type: ignore[no-untyped-call]
    return function.forward(_Forgetful(), *inputs)


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
