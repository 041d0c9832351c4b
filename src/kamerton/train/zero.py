"""Lightning strategy for DeepSpeed's ZeRO stage 2, with the same steps and checkpoints as training on one device.

Requires the extra `deepspeed`: pip install kamerton[deepspeed]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)
from pytorch_lightning.strategies import DeepSpeedStrategy
from pytorch_lightning.strategies.parallel import ParallelStrategy
from torch import nn
from torch.optim import Optimizer


class ZeroStrategy(DeepSpeedStrategy):
    """ZeRO stage 2: gradients and optimizer states are sharded over the ranks, weights are replicated.

    `clip_norm` is the configured bound, since DeepSpeed clips as it steps. A checkpoint is one file of full float32
    tensors, as training on one device writes it.
    """

    lockstep = True  # every backward pass is a collective operation

    def __init__(self, clip_norm: float | None = None, offload_optimizer: bool = False) -> None:
        super().__init__(stage=2, offload_optimizer=offload_optimizer)
        assert isinstance(self.config, dict)
        self.config["gradient_clipping"] = clip_norm or 0.0

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any | None = None
    ) -> None:
        for name, weight in self._trained():
            checkpoint["state_dict"][name] = safe_get_full_fp32_param(weight).cpu()
        ParallelStrategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        return ParallelStrategy.load_checkpoint(self, self.broadcast(checkpoint_path), weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        with torch.no_grad():
            for name, weight in self._trained():
                saved = checkpoint["state_dict"][name].to(weight.device, torch.float32)
                weight.copy_(saved)
                safe_set_full_fp32_param(weight, saved)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the optimizer state by full weight instead of DeepSpeed's flat shard."""
        zero: Any = self.optimizers[0]
        # DeepSpeed links weights to states once, after its first group has stepped, when other groups have none yet.
        zero._hp_optimizer_states_linked = False
        zero._lazy_init_hp_params_optimizer_state()
        weights = [weight for group in zero.bit16_groups for weight in group]
        flat = zero.optimizer.state[zero.single_partition_of_fp32_groups[0]]
        states = {
            number: {key: safe_get_full_optimizer_state(weight, key).cpu() if value.ndim else value.cpu().clone()
                     for key, value in flat.items()}
            for number, weight in enumerate(weights)
        }  # fmt: skip
        numbers = iter(states)
        groups = [
            {**group, "params": [next(numbers) for _ in members]}
            for group, members in zip(zero.optimizer.param_groups, zero.bit16_groups, strict=True)
        ]
        return {"state": states, "param_groups": groups}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        zero: Any = self.optimizers[0]
        (saved,) = checkpoint["optimizer_states"]
        for group, old in zip(zero.optimizer.param_groups, saved["param_groups"], strict=True):
            group.update({key: value for key, value in old.items() if key != "params"})
        for flat in zero.single_partition_of_fp32_groups:
            zero.optimizer.state[flat] = {
                key: torch.zeros_like(flat) if value.ndim else value.clone()
                for key, value in next(iter(saved["state"].values())).items()
            }
        zero._lazy_init_hp_params_optimizer_state()
        for number, weight in enumerate(weight for group in zero.bit16_groups for weight in group):
            for key, value in saved["state"][number].items():
                if value.ndim:
                    safe_set_full_optimizer_state(weight, value.to(weight.device, torch.float32), key)

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        assert self.lightning_module is not None
        return (pair for pair in self.lightning_module.named_parameters() if pair[1].requires_grad)
