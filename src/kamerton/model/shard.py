"""Fully sharded weights (FSDP2): every rank has a part of each weight, gradient and optimizer state.

A layer's weights are gathered when it runs and released afterwards. Sharded tensors are DTensors; `gather` and
`shard_like` convert them to plain ones and back, so that saved files do not depend on the number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(model: Any, mesh: DeviceMesh) -> None:
    """Shard a transformer over the ranks of `mesh` in place: each of its layers, then the rest."""
    layers = model.config.get_text_config().num_hidden_layers
    module_lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    blocks = [block for module_list in module_lists if len(module_list) == layers for block in module_list]
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    # By default FSDP gathers in advance what ran before, even in passes without backward, which ranks may not share.
    for module, before in zip([*blocks, model], [model, *blocks], strict=True):
        module.set_modules_to_backward_prefetch([before])


def is_sharded(model: nn.Module) -> bool:
    """Return whether a weight of `model` is sharded by FSDP or DeepSpeed, so that a rank cannot use it by itself."""
    return any(isinstance(weight, DTensor) or hasattr(weight, "_hp_mapping") for weight in model.parameters())


@contextmanager
def whole_weights(model: nn.Module) -> Iterator[None]:
    """Gather all weights of a sharded model on every rank for a block, whose passes need no other rank.

    All ranks must enter the block. The model must have run once, because its first pass decides which module is its
    root.
    """
    if not isinstance(model, FSDPModule):
        yield
        return
    model.set_reshard_after_forward(False)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.unshard()
    try:
        yield
    finally:
        reshard(model)
        model.set_reshard_after_forward(True)
        model.set_reshard_after_forward(False, recurse=False)  # FSDP's default for the outermost module


def reshard(model: nn.Module) -> None:
    """Release gathered weights: the outermost ones remain gathered after a pass without backward."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def gather(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor to the host of rank 0; all ranks must call this, and the others get an empty tensor.

    A plain tensor is returned unchanged.
    """
    if not isinstance(tensor, DTensor):
        return tensor
    full = tensor.full_tensor()
    return full.cpu() if torch.distributed.get_rank() == 0 else full.new_empty(0)


def shard_like(tensor: Tensor, weight: Tensor) -> Tensor:
    """Return this rank's part of `tensor` if `weight` is sharded and has its shape; otherwise `tensor`."""
    if not isinstance(weight, DTensor) or tensor.shape != weight.shape:
        return tensor
    return distribute_tensor(tensor, weight.device_mesh, weight.placements, src_data_rank=None)


def full_value(tensor: Tensor) -> Tensor:
    """Return a possibly sharded tensor as a plain tensor on every rank."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
