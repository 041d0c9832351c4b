"""Generation with weights of 8 bits: the product of each new token reads a copy of the weights a quarter of the size.

Each row of a weight (out, in) is rounded to 255 equal steps between plus and minus its largest value (vector-wise
absmax, LLM.int8(): arXiv 2208.07339), the inputs to 16,383 steps; their products are added up exactly. One token at a
time, a model waits for memory to bring its weights, so a quarter of the bytes is most of a quarter of the time. Prompts
are read with the weights as they are: there many tokens share them, and the products of float32 are faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary

from kamerton.model import native
from kamerton.model.siblings import laid_together, lay_together, together

Quantize = Literal["int8"]

_MOST_ROWS = 16  # more rows are faster as a product of float32 with the rounded weights
_copies: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # weight → (out, in) int8, (out, 1) float32
_decodes = False


class _Int8Linear(nn.Linear):
    """A linear layer that no other kernel computes."""

    def forward(self, x: Tensor) -> Tensor:
        return int8_products(x, [self.weight])[0] if uses_int8(self.weight) else super().forward(x)


def quantize(model: nn.Module) -> Callable[[], None]:
    """Keep copies of 8 bits of the linear layers' weights; return a function that removes them.

    For weights in float32 on the CPU, of layers without a bias and outside adapters. The products inside `new_tokens`
    use the copies; later changes of the weights have no effect on them.
    """
    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    layers = [(name, layer) for name, layer in layers if ".lora_" not in name and _is_supported(layer)]
    kept = {weight.data_ptr(): _copies[weight] for weight in _copies}  # of models that share weights
    added = [layer.weight for _, layer in layers if layer.weight not in _copies]
    for weight in added:
        _copies[weight] = kept.get(weight.data_ptr()) or rounded(weight.detach())
    for weights in laid_together(model):
        for parts in zip(*(_copies[weight] for weight in weights), strict=True):
            lay_together(parts)
    # The base layer of an adapter is computed by the adapter's kernel.
    replaced = [layer for name, layer in layers if type(layer) is nn.Linear and not name.endswith("base_layer")]
    for layer in replaced:
        layer.__class__ = _Int8Linear

    def undo() -> None:
        for weight in added:
            del _copies[weight]
        for layer in replaced:
            layer.__class__ = nn.Linear

    return undo


def _is_supported(layer: nn.Linear) -> bool:
    return layer.bias is None and layer.weight.dtype is torch.float32 and layer.weight.device.type == "cpu"


@contextmanager
def quantized(model: nn.Module, kind: Quantize | None) -> Iterator[None]:
    """Apply `quantize` for the block; nothing is done if `kind` is None."""
    undo = quantize(model) if kind else None
    try:
        yield
    finally:
        if undo is not None:
            undo()


@contextmanager
def new_tokens() -> Iterator[None]:
    """Inside the block the model runs on the newest token of each sequence."""
    global _decodes
    before, _decodes = _decodes, True
    try:
        yield
    finally:
        _decodes = before


def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weight (out, in) in 8 bits, and the float32 step (out, 1) of each row."""
    step = weight.abs().amax(dim=1, keepdim=True).div_(127)
    inverse = torch.where(step > 0, step.reciprocal(), 0.0)
    return (weight * inverse).round_().to(torch.int8), step


def uses_int8(weight: Tensor) -> bool:
    """Return whether products with this weight use its copy now."""
    return _decodes and weight in _copies


def int8_products(x: Tensor, weights: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return `x W'` for x (T, in) with the copy of each W (out, in); one product if the copies lie together."""
    copies = [_copies[weight] for weight in weights]
    if len(copies) == 1:
        return [_product(x, *copies[0])]
    matrix, step = (together(parts) for parts in zip(*copies, strict=True))
    if matrix is None or step is None:
        return [_product(x, *copy) for copy in copies]
    return _product(x, matrix, step).split_with_sizes([len(weight) for weight in weights], dim=-1)


def _product(x: Tensor, matrix: Tensor, step: Tensor) -> Tensor:
    rows, (outputs, inputs) = x.numel() // x.shape[-1], matrix.shape
    library = native.library()
    if library is None or rows > _MOST_ROWS:
        return F.linear(x, matrix.float().mul_(step))
    x = x.contiguous()
    out = x.new_empty(*x.shape[:-1], outputs)
    room = x.new_empty(rows * (inputs + 2) // 2 + rows)  # rounded inputs of 16 bits, and a step for each row
    library.int8_product(
        x.data_ptr(),
        matrix.data_ptr(),
        step.data_ptr(),
        room.data_ptr() + 4 * rows,
        room.data_ptr(),
        out.data_ptr(),
        rows,
        inputs,
        outputs,
    )
    return out
