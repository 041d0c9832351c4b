"""The number format in which a model's large matrix products are multiplied, apart from that of its weights.

With `bfloat16` the inputs of a product are rounded to bfloat16 (8 bits of precision), multiplied and added up in
float32; weights, activations, gradients and everything else stay in float32. A processor with matrix units for
bfloat16 (AMX) computes that several times as fast. Only weights that are marked take part (`use_bfloat16`): those of a
model's own linear layers. LoRA's products are small, and rounding them costs accuracy for no time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary

from kamerton.model.int8 import int8_products, uses_int8

MOST_EXACT_ROWS = 16  # products of fewer rows read the weight once and wait for memory: they stay in float32
_ONEDNN: Any = torch.backends.mkldnn
_is_exact = False
_marked: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # as a set of weights


def use_bfloat16(weights: Iterable[Tensor]) -> None:
    """Let the kernels multiply with these weights in bfloat16."""
    for weight in weights:
        _marked[weight] = True


def use_float32(weights: Iterable[Tensor]) -> None:
    """Undo `use_bfloat16`."""
    for weight in weights:
        if weight in _marked:
            del _marked[weight]


def is_bfloat16(weight: Tensor) -> bool:
    """Return whether the kernels multiply with this weight in bfloat16."""
    return weight in _marked


@contextmanager
def exact_products() -> Iterator[None]:
    """Multiply in float32 inside the block, so that two ways of computing the same can be compared closely."""
    global _is_exact
    before, _is_exact = _is_exact, True
    try:
        yield
    finally:
        _is_exact = before


def is_supported() -> bool:
    """Return whether this processor multiplies in bfloat16; without that, torch ignores the marks."""
    return bool(hasattr(_ONEDNN, "matmul") and _ONEDNN.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def forward_product(x: Tensor, weight: Tensor, matrix: Tensor | None = None) -> Tensor:
    """Return `x W'` for x (T, in) and W (out, in); `matrix` replaces W by rows of it, or by it and its neighbours."""
    if matrix is None and uses_int8(weight):
        return int8_products(x, [weight])[0]
    with _format_of(weight, len(x)):
        return F.linear(x, weight if matrix is None else matrix)


def backward_product(
    grad: Tensor, weight: Tensor, into: Tensor | None = None, *, matrix: Tensor | None = None
) -> Tensor:
    """Return `grad W` for grad (T, out) and W (out, in), added to `into` if given; `matrix` as above."""
    product = weight if matrix is None else matrix
    with _format_of(weight, len(grad)):
        return grad @ product if into is None else into.addmm_(grad, product)


def weight_product(grad: Tensor, x: Tensor, weight: Tensor, into: Tensor | None = None) -> Tensor:
    """Return the gradient `grad' x` (out, in) of `weight` for grad (T, out), x (T, in), added to `into` if given."""
    with _format_of(weight, len(x)):
        return grad.t() @ x if into is None else into.addmm_(grad.t(), x)


@contextmanager
def _format_of(weight: Tensor, rows: int) -> Iterator[None]:
    if _is_exact or rows < MOST_EXACT_ROWS or weight not in _marked:
        yield
        return
    _ONEDNN.matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        _ONEDNN.matmul.fp32_precision = "none"
