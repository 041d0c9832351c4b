"""Terminal output of a fit: the progress bar and the table of the model's parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichModelSummary, RichProgressBar
from rich import get_console
from rich.table import Table


class ProgressBar(RichProgressBar):
    """Lightning's bar with loss, validation loss and tokens per second; `max_steps` bounds its length."""

    @property
    def total_train_batches(self) -> int | float:
        """Return the steps of the current epoch: those that are left for it if `max_steps` ends it."""
        steps, max_steps = self.trainer.num_training_batches, self.trainer.max_steps
        return steps if max_steps == -1 else min(steps, max_steps - self.trainer.current_epoch * steps)

    def _get_train_description(self, current_epoch: int) -> str:
        """Return the bar's label, with epochs counted from 1 and left out if there is only one."""
        epochs = self.trainer.max_epochs
        text = "Training" if epochs == 1 else f"Epoch {current_epoch + 1}"
        text += f"/{epochs}" if epochs is not None and epochs > 1 else ""
        return text.ljust(len(self.validation_description))  # equal widths: the bars would flicker otherwise

    @contextmanager
    def scoring(self, total: int) -> Iterator[Callable[[int], None]]:
        """A bar while a validation scores `total` examples, advanced by calling what it yields; none if disabled."""
        progress = self.progress
        if progress is None or self.is_disabled:
            yield lambda done: None
            return
        task = self._add_task(total, "Scoring".ljust(len(self.validation_description)))
        try:
            yield lambda done: progress.advance(task, done)
        finally:
            progress.update(task, visible=False)

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        labels = {
            "train/loss": "loss",
            "val/loss": "val loss",
            "train/reward": "reward",
            "val/accuracy": "val acc",
            "perf/tokens_per_s": "tok/s",
        }
        metrics = trainer.callback_metrics
        values = {label: float(metrics[key]) for key, label in labels.items() if key in metrics}
        return {name: f"{value:.0f}" if name == "tok/s" else f"{value:.3f}" for name, value in values.items()}


class ModelSummary(RichModelSummary):
    """Lightning's table of the model without the FLOPs column, which is always 0 without an example input."""

    @staticmethod
    def summarize(
        summary_data: list[tuple[str, list[str]]],
        total_parameters: int,
        trainable_parameters: int,
        model_size: float,
        *_: Any,
        **__: Any,
    ) -> None:
        columns = {name.strip(): values for name, values in summary_data if name != "FLOPs"}
        table = Table(*columns, header_style="bold")
        for row in zip(*columns.values(), strict=True):
            table.add_row(*row)
        console = get_console()
        console.print(table)
        share = trainable_parameters / total_parameters if total_parameters else 0.0
        size = f"{total_parameters:,} parameters ({model_size:,.0f} MB)"
        console.print(f"{size}, {trainable_parameters:,} of them trained ({share:.2%})", highlight=False)
