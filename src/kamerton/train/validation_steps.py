"""When a run validates whose interval is a share of an epoch: after the same shares of the data at every batch size."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection
from fractions import Fraction
from typing import Any

import pytorch_lightning as pl


def occasions(share: float, steps_per_epoch: int, total_steps: int) -> frozenset[int]:
    """The steps that complete a multiple of `share` of an epoch; the last step where the run ends before the first.

    An interval in whole steps would drift: of 10 steps, a quarter rounded to 2 gives five validations an epoch.
    """
    interval = Fraction(str(share)) * steps_per_epoch
    return frozenset(math.ceil(number * interval) for number in range(1, int(total_steps / interval) + 1)) or frozenset(
        {total_steps}
    )


class ValidateAt(pl.Callback):
    """Has the trainer validate after the given optimizer steps and no others."""

    def __init__(self, steps: Collection[int]) -> None:
        self._steps = steps

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._set(trainer, trainer.global_step)  # a run that goes on asks about the step before

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self._set(trainer, trainer.global_step + 1)

    def _set(self, trainer: pl.Trainer, step: int) -> None:
        """Lightning validates where the number of steps is a multiple of this."""
        trainer.val_check_batch = 1 if step in self._steps else sys.maxsize
