"""Validation at fractions of an epoch: after the same share of the data at every batch size."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection
from fractions import Fraction
from typing import Any

import pytorch_lightning as pl


def validation_steps(share: float, steps_per_epoch: int, total_steps: int) -> frozenset[int]:
    """Return the steps that complete a multiple of `share` of an epoch; only the last step if the run is too short.

    An interval in whole steps would drift: with 10 steps per epoch, a quarter rounded to 2 steps gives five validations
    per epoch instead of four.
    """
    interval = Fraction(str(share)) * steps_per_epoch
    count = int(total_steps / interval)
    return frozenset(math.ceil(number * interval) for number in range(1, count + 1)) or frozenset({total_steps})


class ValidateAt(pl.Callback):
    """Make the trainer validate after exactly the given optimizer steps."""

    def __init__(self, steps: Collection[int]) -> None:
        self._steps = steps

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._set(trainer, trainer.global_step)  # on resuming, Lightning first checks the step before

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self._set(trainer, trainer.global_step + 1)

    def _set(self, trainer: pl.Trainer, step: int) -> None:
        """Set `val_check_batch`: Lightning validates when the step count is a multiple of it."""
        trainer.val_check_batch = 1 if step in self._steps else sys.maxsize
