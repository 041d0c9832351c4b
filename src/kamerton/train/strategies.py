"""Lightning strategy for sharded training (FSDP2), with the same checkpoints as training on one device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_utilities import apply_to_collection
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import ModelParallelStrategy
from pytorch_lightning.strategies.parallel import ParallelStrategy
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from kamerton.model.shard import gather, shard_like


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2 over all ranks, on GPUs or CPUs; the module shards itself in `configure_model`.

    Rank 0 writes a checkpoint as one file of full tensors, as training on one device does, so a run can be resumed with
    any number of ranks, sharded or not. (Lightning's own conversion numbers the optimizer's states in the order of the
    model's parameters, which differs from the optimizer's if some are frozen or grouped.)
    """

    lockstep = True  # every forward pass is a collective operation, so all ranks need equally many

    def __init__(self) -> None:
        super().__init__(save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        return {}  # FineTuneModule.on_save_checkpoint adds the trained weights

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        path = self.broadcast(checkpoint_path)
        return ParallelStrategy.load_checkpoint(self, path, weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.lightning_module is not None
        weights = dict(self.lightning_module.named_parameters())
        with torch.no_grad():
            for name, saved in checkpoint["state_dict"].items():
                weights[name].copy_(shard_like(saved, weights[name]))

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        inner = optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        state: dict[str, Any] = apply_to_collection(inner.state_dict(), DTensor, gather)
        return state

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            states = {
                number: {key: shard_like(value, weights[number]) if isinstance(value, torch.Tensor) else value
                         for key, value in state.items()}
                for number, state in saved["state"].items()
            }  # fmt: skip
            optimizer.load_state_dict({**saved, "state": states})
