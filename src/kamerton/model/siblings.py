"""Linear layers of one module that have the same input: their weights can be one matrix, and their products one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

ATTENTION_INPUTS = ("q_proj", "k_proj", "v_proj")
_MLP_INPUTS = ("gate_proj", "up_proj")


def siblings(model: nn.Module, names: tuple[str, ...]) -> Iterator[list[Any]]:
    """Yield, for each module that has parts of all these names, the list of those parts."""
    for module in model.modules():
        if all(hasattr(module, name) for name in names):
            yield [getattr(module, name) for name in names]


def lay_together(weights: Sequence[Tensor]) -> None:
    """Move frozen weights (out, in) into one matrix, one after the other; nothing is copied if they already are."""
    if together(weights) is None:
        matrix = torch.cat([weight.detach() for weight in weights])
        for weight, part in zip(weights, matrix.split_with_sizes([len(weight) for weight in weights]), strict=True):
            weight.data = part


def together(weights: Sequence[Tensor]) -> Tensor | None:
    """Return the matrix (sum of out, in) of weights that lie one after the other in memory, else None."""
    first, end = weights[0], weights[0].storage_offset()
    for weight in weights:
        joins = weight.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not joins or weight.storage_offset() != end or not weight.is_contiguous():
            return None
        end += weight.numel()
    rows = sum(len(weight) for weight in weights)
    return first.detach().as_strided((rows, first.shape[1]), (first.shape[1], 1))


def lay_siblings_together(model: nn.Module) -> None:
    """Let the weights of layers with the same input lie one after the other in memory.

    For weights that are not trained, on a CPU: the products of such layers become one (`projections`).
    """
    for names in (ATTENTION_INPUTS, _MLP_INPUTS):
        for layers in siblings(model, names):
            weights = [layer.weight for layer in layers if isinstance(layer, nn.Linear) and layer.bias is None]
            is_plain = all(weight.dtype is torch.float32 and weight.device.type == "cpu" for weight in weights)
            if len(weights) == len(layers) and is_plain and len({weight.shape[1] for weight in weights}) == 1:
                lay_together(weights)


def laid_together(model: nn.Module) -> Iterator[list[Tensor]]:
    """Yield the weights that lie one after the other in memory, of layers with the same input."""
    for names in (ATTENTION_INPUTS, _MLP_INPUTS):
        for layers in siblings(model, names):
            weights = [getattr(layer, "base_layer", layer).weight for layer in layers]
            if together(weights) is not None:
                yield weights
