"""Score examples at every validation, and log the metrics as `val/NAME`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.seed import isolate_rng
from torch import nn

from kamerton.model.shard import whole_weights
from kamerton.train.callbacks.progress import ProgressBar


@dataclass(frozen=True, slots=True)
class Scorer:
    """A function from a model to metrics by name, which every rank calls.

    Its second argument is called, equally often on all ranks, with a number of examples that have been scored; they
    sum to `total`.
    """

    total: int
    score: Callable[[Any, Callable[[int], None]], dict[str, float]]


class ScoreValidation(pl.Callback):
    """Score the weights that are validated, and log the metrics; the ranks divide the examples.

    Training is not affected: the state of the random number generators is restored, and Lightning restores the mode of
    each module. It comes before `AveragedWeights`, which puts the training weights back when a validation ends.
    """

    def __init__(self, scorer: Scorer, stop: Callable[[pl.Trainer], None]) -> None:
        """`stop` ends the fit if a stop was requested, so that the resumed run repeats the validation."""
        self._scorer, self._stop = scorer, stop

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        bar, model = trainer.progress_bar_callback, pl_module.model
        assert isinstance(model, nn.Module)
        scoring = bar.scoring(self._scorer.total) if isinstance(bar, ProgressBar) else nullcontext(lambda done: None)
        with isolate_rng(), whole_weights(model), scoring as advance:

            def progress(done: int) -> None:
                advance(done)
                self._stop(trainer)

            values = self._scorer.score(model, progress)
        for name, value in values.items():
            pl_module.log(f"val/{name}", torch.tensor(value, dtype=torch.float64, device=pl_module.device))
