"""Shared by tests of training steps: ragged rows with a common prefix, and a trainer that writes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl


class Ragged:
    """Encoded rows of very different lengths and target counts, most of which share some of one prefix."""

    def __init__(self, size: int) -> None:
        draw = np.random.default_rng(7)
        prefix = draw.integers(3, 200, 20)
        begins = [int(draw.choice([0, 9, 20, 20])) for _ in range(size)]
        self._rows = [np.concatenate([prefix[:begin], draw.integers(3, 200, draw.integers(2, 40))]) for begin in begins]
        self._first = [int(draw.integers(1, len(row))) for row in self._rows]
        self.lengths = np.array([len(row) for row in self._rows], dtype=np.int32)
        self.target_counts = self.lengths - np.array(self._first, dtype=np.int32)

    def tokens(self, index: int) -> npt.NDArray[np.int32]:
        return self._rows[index].astype(np.int32)

    def targets(self, index: int) -> npt.NDArray[np.bool_]:
        return np.arange(self.lengths[index]) >= self._first[index]

    def __len__(self) -> int:
        return len(self._rows)


def bare_trainer(steps: int, **options: Any) -> pl.Trainer:
    """Lightning's trainer on the CPU for so many optimizer steps."""
    return pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
