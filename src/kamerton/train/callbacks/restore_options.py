"""On resuming, take options and the checkpoint folder from the configuration instead of the checkpoint.

Lightning and torch restore both along with the state of optimizer, schedule and callbacks. Options change only in a
forced resume, but they are written on every resume, so that a run killed right after a forced one keeps the new values.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

_PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")


class RestoreOptions(pl.Callback):
    """Overwrite the restored options of optimizer, schedule and early stopping, and the folder of checkpoints.

    `optimizer` builds the configured optimizer of a model; `folder` is where the run's checkpoints are now.
    """

    def __init__(self, optimizer: Callable[[nn.Module], Optimizer], folder: Path) -> None:
        self._optimizer, self._folder = optimizer, os.path.realpath(folder)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            state = checkpoint["callbacks"].get(callback.state_key)
            if state and isinstance(callback, EarlyStopping):
                state["patience"] = callback.patience
            elif state and isinstance(callback, ModelCheckpoint) and callback.dirpath == self._folder:
                # With another folder, ModelCheckpoint would discard its best score and overwrite the best weights.
                move_checkpoint_state(state, self._folder)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        fresh = self._optimizer(pl_module.model)  # type: ignore[arg-type]
        write_options(fresh, trainer.optimizers[0], trainer.lr_scheduler_configs[0].scheduler)


def write_options(fresh: Optimizer, optimizer: Optimizer, scheduler: Any) -> None:
    """Copy the options of `fresh` to `optimizer`, group by group, and set the scheduled rates of the current step."""
    options = inspect.signature(type(fresh)).parameters.keys() - {"params", "lr"}  # a group may also have state
    for new, group in zip(fresh.param_groups, optimizer.param_groups, strict=True):
        group.update({key: new[key] for key in options & new.keys()})
    if not isinstance(scheduler, LambdaLR):
        return
    scheduler.base_lrs = [group["lr"] for group in fresh.param_groups]
    for group, base, share in zip(optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
        group["initial_lr"], group["lr"] = base, base * share(scheduler.last_epoch)
    scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]


def move_checkpoint_state(state: dict[str, Any], folder: str) -> None:
    """Rewrite every path in the state of a `ModelCheckpoint` from its old folder to `folder`, in place."""

    def moved(path: str) -> str:
        return os.path.join(folder, os.path.relpath(path, old_folder)) if path else path

    old_folder, state["dirpath"] = state["dirpath"], folder
    state.update({key: moved(state[key]) for key in _PATHS if key in state})
    state["best_k_models"] = {moved(path): score for path, score in state["best_k_models"].items()}
