"""Report each validation of a trial to Optuna, and end the trial if the study's pruner decides so."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from kamerton.errors import Cancelled, Fault

if TYPE_CHECKING:
    from optuna import Trial

PRUNED = "pruned"  # fault code of a pruned run


class Pruning(pl.Callback):
    """Report the validated `metric` at step 1, 2, …: the number of the validation, not of the optimizer step.

    With `eval.every` in epochs these numbers mean the same share of the data at every batch size. Rank 0 holds `trial`
    and decides for all ranks (the others pass None); the fit ends as with early stopping. A run at its last step is
    not pruned.
    """

    def __init__(self, trial: Trial | None, metric: str) -> None:
        self._trial, self._metric = trial, metric
        self._count = 0
        self._pruned = False
        self.values: dict[str, float] = {}  # the metric at the latest validation

    @property
    def pruned(self) -> str | None:
        """Return a message if the run was pruned, else None."""
        if not self._pruned:
            return None
        values = "".join(f" ({name} {value:.4g})" for name, value in self.values.items())
        return f"pruned at validation {self._count}{values}: unlikely to become the best trial"

    def state_dict(self) -> dict[str, Any]:
        return {"count": self._count, "pruned": self._pruned, "values": self.values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._count, self._pruned = state_dict["count"], state_dict["pruned"]
        self.values = state_dict.get("values", {})

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self._count += 1
        self.values = {self._metric: float(trainer.callback_metrics[self._metric])}
        prune = False
        if self._trial is not None:
            report(self._trial, self.values[self._metric], self._count)
            last_epoch = trainer.max_epochs is not None and trainer.current_epoch + 1 == trainer.max_epochs
            last_step = trainer.global_step == trainer.max_steps or (last_epoch and trainer.is_last_batch)
            # Some pruners return numpy.bool_.
            prune = not trainer.should_stop and not last_step and bool(self._trial.should_prune())
        self._pruned = trainer.strategy.broadcast(prune)
        trainer.should_stop |= self._pruned

    def check(self) -> None:
        """Raise `Cancelled` if the run was pruned. Call it after the fit."""
        if self.pruned is not None:
            raise Cancelled(Fault(PRUNED, self.pruned, "hydra/sweeper/pruner=none trains every trial to its end"))


def report(trial: Trial, value: float, step: int) -> None:
    """Report a value to the study; a value reported before the trial was resumed is kept."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The reported value is ignored")
        trial.report(value, step)
