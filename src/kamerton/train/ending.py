"""Why a fit ended: as `ended` in `run.json`, and as an event where that was before the last planned step."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, Timer
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason

from kamerton.run.directory import RunDirectory
from kamerton.train.monitor import Monitor
from kamerton.train.pruning import PRUNED, Pruning
from kamerton.words import ending

Reason = tuple[str, str, dict[str, float]]  # its name, a clause, and the values of the metric behind it
EARLY = "ended-early"


class Ending(pl.Callback):
    """Notes `ended: {reason, step, of, detail, values}` when the training ends by itself.

    `reason` is early_stopping, monitor, pruned, max_time or callback before the last step; at it `planned`, the limit
    that the plan named. An interrupted run has not ended.
    """

    def __init__(self, run: RunDirectory, total_steps: int, planned: tuple[str, str]) -> None:
        self._run, self._total_steps, self._planned = run, total_steps, planned

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        early = trainer.global_step < self._total_steps
        reason, detail, values = why(trainer) if early else (*self._planned, {})
        ended = {"reason": reason, "step": trainer.global_step, "of": self._total_steps, "detail": detail}
        self._run.update(ended={**ended, "values": values})
        if early:
            text = ending(ended)
            self._run.event("info", EARLY, f"{text[:1].upper()}{text[1:]}", evidence={"reason": reason, **values})


def why(trainer: pl.Trainer) -> Reason:
    """What ended a fit before its last step."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    found = (reason for callback in callbacks for reason in _reasons(callback, trainer))
    return next(found, ("callback", "a callback asked for it (trainer.should_stop)", {}))


def _reasons(callback: Any, trainer: pl.Trainer) -> Iterator[Reason]:
    """The reason to stop that a callback has, if it has one."""
    if isinstance(callback, Monitor) and callback.stopped_by is not None:
        issue = callback.stopped_by
        yield "monitor", f"monitor.stop_on has {issue['code']}: {issue['message']}", {}
    elif isinstance(callback, Pruning) and callback.pruned is not None:
        yield PRUNED, callback.pruned, callback.values
    elif isinstance(callback, EarlyStopping):
        yield from _early_stopping(callback, trainer)
    elif isinstance(callback, Timer):
        left = callback.time_remaining()
        if left is not None and left <= 0:
            passed = timedelta(seconds=round(callback.time_elapsed()))
            limit = timedelta(seconds=round(callback.time_elapsed() + left))
            yield "max_time", f"the time limit of {limit} was reached", {"seconds": passed.total_seconds()}


def _early_stopping(callback: EarlyStopping, trainer: pl.Trainer) -> Iterator[Reason]:
    name, why = callback.monitor, callback.stopping_reason
    current = trainer.callback_metrics.get(name)
    if current is None or why is EarlyStoppingReason.NOT_STOPPED:
        return
    value, best = float(current), float(callback.best_score)
    if why is EarlyStoppingReason.PATIENCE_EXHAUSTED:
        if callback.wait_count < callback.patience:
            return  # the run went on after that, and improved
        count = f"{callback.wait_count} validation{'s' if callback.wait_count != 1 else ''}"
        text = f"{name} did not improve in {count} ({value:.6g}; the best was {best:.6g})"
    elif why is EarlyStoppingReason.NON_FINITE_METRIC:
        text = f"{name} is {value}"
    elif why is EarlyStoppingReason.STOPPING_THRESHOLD:
        text = f"{name} is {value:.4g} and reached stopping_threshold={callback.stopping_threshold}"
    else:
        text = f"{name} is {value:.4g} and passed divergence_threshold={callback.divergence_threshold}"
    yield "early_stopping", f"early stopping: {text}", {name: value, "best": best}
