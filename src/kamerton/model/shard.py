"""Fully sharded weights (FSDP2): every rank holds a part of each weight, gradient and optimizer state.

A layer's weights are gathered when it runs and let go afterwards. Sharded tensors are DTensors; `whole` and `like` lead
from them to plain ones and back, so that what is saved does not depend on how many ranks there were.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(model: Any, mesh: DeviceMesh) -> None:
    """Shard a transformer over the ranks of `mesh` in place: each of its layers, then what is left of it."""
    layers = model.config.get_text_config().num_hidden_layers
    for blocks in [found for found in model.modules() if isinstance(found, nn.ModuleList) and len(found) == layers]:
        for block in blocks:
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def is_sharded(model: nn.Module) -> bool:
    """Return whether FSDP or DeepSpeed has tied some weight of `model` to other ranks: then it is not for one rank alone."""
    return any(isinstance(weight, DTensor) or hasattr(weight, "_hp_mapping") for weight in model.parameters())


def reshard(model: nn.Module) -> None:
    """Let gathered weights go: the outermost ones stay gathered after a pass without backward."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(tensor: Tensor) -> Tensor:
    """Return the tensor put together, on the host of rank 0; the other ranks have to take part, and get an empty one.

    A plain tensor is returned as it is.
    """
    if not isinstance(tensor, DTensor):
        return tensor
    full = tensor.full_tensor()
    return full.cpu() if torch.distributed.get_rank() == 0 else full.new_empty(0)


def like(tensor: Tensor, weight: Tensor) -> Tensor:
    """Return this rank's part of `tensor` if `weight` is sharded and of its shape; otherwise the same tensor."""
    if not isinstance(weight, DTensor) or tensor.shape != weight.shape:
        return tensor
    return distribute_tensor(tensor, weight.device_mesh, weight.placements, src_data_rank=None)


def full_value(tensor: Tensor) -> Tensor:
    """Return a number that may be the result of sharded tensors, as a plain tensor on every rank."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
