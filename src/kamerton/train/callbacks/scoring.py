"""Score examples at every validation, and log the metrics as `val/NAME`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.seed import isolate_rng

from kamerton.errors import Interrupted

Scorer = Callable[[Any, Callable[[int], None]], dict[str, float]]
"""From a model to metrics by name; the second argument is called after every batch."""


class ScoreValidation(pl.Callback):
    """Apply a scoring function to the weights that are validated; rank 0 scores, and all ranks log its values.

    Training is not affected: the state of the random number generators is restored, and Lightning restores the mode of
    each module. It comes before `AveragedWeights`, which puts the training weights back when a validation ends.
    """

    def __init__(self, score: Scorer, stop: Callable[[pl.Trainer], None]) -> None:
        """`stop` ends the fit if a stop was requested, so that the resumed run repeats the validation."""
        self._score, self._stop = score, stop

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        with isolate_rng():
            values = self._on_rank_0(trainer, pl_module) if trainer.is_global_zero else _received(trainer)
        for name, value in values.items():
            pl_module.log(f"val/{name}", torch.tensor(value, dtype=torch.float64, device=pl_module.device))

    def _on_rank_0(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, float]:
        if trainer.world_size == 1:
            return self._score(module.model, lambda done: self._stop(trainer))
        broadcast = trainer.strategy.broadcast
        try:
            values = self._score(module.model, lambda done: broadcast(None))
        except Exception:
            broadcast({})
            raise
        return dict(broadcast(values))


def _received(trainer: pl.Trainer) -> dict[str, float]:
    """Return the values of rank 0. It sends None after each batch, so that no timeout of a long scoring expires.

    Raises `Interrupted` if rank 0 failed: it reports the error.
    """
    values: dict[str, float] | None = None
    while values is None:
        values = trainer.strategy.broadcast(values)
    if not values:
        raise Interrupted
    return values
