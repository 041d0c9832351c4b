"""Weight averaging: averaged weights are validated, exported and scored, while training continues with the last ones.

Two kinds: an exponential moving average (EMA), and the average kept by a schedule-free optimizer. Lightning's own
`EMAWeightAveraging` copies the whole model, frozen weights included, into every checkpoint; this keeps only the trained
weights. A checkpoint's `state_dict` holds the weights to resume from, its `averaged` the weights to evaluate.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

Weights = dict[str, Tensor]


class AveragedWeights(pl.Callback):
    """Validate and save averaged weights: an EMA with `decay`, or a schedule-free optimizer's average without it.

    The EMA starts at the initial weights and is updated after every optimizer step in float32, average = decay *
    average + (1 - decay) * weights, so it spans about 1 / (1 - decay) steps.
    """

    def __init__(self, decay: float | None = None) -> None:
        self._decay = decay
        self._average: Weights = {}
        self._last: Weights | None = None  # training weights, while the averaged ones are in the model

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._decay is None:
            trainer.optimizers[0].train()  # type: ignore[attr-defined]  # required before the first step
            return
        start = self._average or _trained(pl_module)
        self._average = {name: weight.to(pl_module.device, torch.float32, copy=True) for name, weight in start.items()}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if self._decay is not None:
            now = [weight.detach().float() for weight in _trained(pl_module).values()]
            follow: Any = get_ema_multi_avg_fn(self._decay)  # type: ignore[no-untyped-call]
            follow(list(self._average.values()), now, 0)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:  # there is no average before the first step
            return
        averaged = self._averaged(trainer, pl_module)
        self._last = _copy(_trained(pl_module))
        _write(averaged, pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restore(pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._restore(pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._restore(pl_module)  # a run stopped during validation saves there
        checkpoint["averaged"] = self._averaged(trainer, pl_module)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._average = dict(checkpoint.get("averaged", {}))  # missing if resume=force turned averaging on

    def _averaged(self, trainer: pl.Trainer, module: nn.Module) -> Weights:
        if self._decay is not None:
            return self._average
        optimizer: Any = trainer.optimizers[0]
        last = _copy(_trained(module))
        optimizer.eval()
        averaged = _copy(_trained(module))
        optimizer.train()
        _write(last, module)  # optimizer.train() alone does not restore the exact bits
        return averaged

    def _restore(self, module: nn.Module) -> None:
        if self._last is not None:
            _write(self._last, module)
            self._last = None


def _trained(module: nn.Module) -> Weights:
    return {name: weight for name, weight in module.named_parameters() if weight.requires_grad}


def _copy(weights: Weights) -> Weights:
    return {name: weight.detach().clone() for name, weight in weights.items()}


@torch.no_grad()
def _write(weights: Weights, module: nn.Module) -> None:
    for name, weight in _trained(module).items():
        weight.copy_(weights[name])
