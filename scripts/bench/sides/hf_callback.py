"""The clock as a callback of Hugging Face's Trainer, for the peers that are built on it."""

from __future__ import annotations

from typing import Any

import clock
from transformers import TrainerCallback


class Start(TrainerCallback):
    """Starts the clock before the first batch is made."""

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        clock.begin()


class Clock(Start):
    """Counts the rows before training as well."""

    def on_train_begin(self, *_: Any, train_dataloader: Any = None, **__: Any) -> None:
        rows = train_dataloader.dataset
        mask = "completion_mask" if "completion_mask" in rows.column_names else None
        marks = rows[mask] if mask else [[label != -100 for label in labels] for labels in rows["labels"]]
        clock.count([len(ids) for ids in rows["input_ids"]], [sum(row) for row in marks])
