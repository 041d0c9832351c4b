"""Record why a fit ended: as `ended` in `run.json`, and as an event if it ended before the last planned step."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, Timer
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason

from kamerton.run.directory import RunDirectory
from kamerton.train.callbacks.monitor import Monitor
from kamerton.train.callbacks.pruning import PRUNED, Pruning
from kamerton.words import ending

Reason = tuple[str, str, dict[str, float]]  # name, explanation, metric values
EARLY = "ended-early"


class Ending(pl.Callback):
    """Record `ended: {reason, step, of, detail, values}` at the end of training, but not when it is interrupted.

    `reason` is early_stopping, monitor, pruned, max_time or callback before the last step. At the last step reason and
    detail are `planned`: the name of the limit that was reached, and its setting.
    """

    def __init__(self, run: RunDirectory, total_steps: int, planned: tuple[str, str]) -> None:
        self._run, self._total_steps, self._planned = run, total_steps, planned

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        early = trainer.global_step < self._total_steps
        reason, detail, values = end_reason(trainer) if early else (*self._planned, {})
        ended = {"reason": reason, "step": trainer.global_step, "of": self._total_steps, "detail": detail}
        self._run.update(ended={**ended, "values": values})
        if early:
            text = ending(ended)
            self._run.event("info", EARLY, f"{text[:1].upper()}{text[1:]}", evidence={"reason": reason, **values})


def end_reason(trainer: pl.Trainer) -> Reason:
    """Return what ended a fit before its last step."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        reason = _stop_reason(callback, trainer)
        if reason is not None:
            return reason
    return "callback", "a callback asked for it (trainer.should_stop)", {}


def _stop_reason(callback: Any, trainer: pl.Trainer) -> Reason | None:
    """Return why `callback` stopped the fit, or None if it did not."""
    if isinstance(callback, Monitor) and callback.stopped_by is not None:
        issue = callback.stopped_by
        return "monitor", f"monitor.stop_on has {issue['code']}: {issue['message']}", {}
    if isinstance(callback, Pruning) and callback.pruned is not None:
        return PRUNED, callback.pruned, callback.values
    if isinstance(callback, EarlyStopping):
        return _early_stopping_reason(callback, trainer)
    if isinstance(callback, Timer):
        remaining = callback.time_remaining()
        if remaining is not None and remaining <= 0:
            elapsed = timedelta(seconds=round(callback.time_elapsed()))
            limit = timedelta(seconds=round(callback.time_elapsed() + remaining))
            return "max_time", f"the time limit of {limit} was reached", {"seconds": elapsed.total_seconds()}
    return None


def _early_stopping_reason(callback: EarlyStopping, trainer: pl.Trainer) -> Reason | None:
    name, stopped = callback.monitor, callback.stopping_reason
    current = trainer.callback_metrics.get(name)
    if current is None or stopped is EarlyStoppingReason.NOT_STOPPED:
        return None
    value, best = float(current), float(callback.best_score)
    if stopped is EarlyStoppingReason.PATIENCE_EXHAUSTED:
        if callback.wait_count < callback.patience:
            return None  # a resumed run continued past that point and improved
        count = f"{callback.wait_count} validation{'s' if callback.wait_count != 1 else ''}"
        text = f"{name} did not improve in {count} ({value:.6g}; the best was {best:.6g})"
    elif stopped is EarlyStoppingReason.NON_FINITE_METRIC:
        text = f"{name} is {value}"
    elif stopped is EarlyStoppingReason.STOPPING_THRESHOLD:
        text = f"{name} is {value:.4g} and reached stopping_threshold={callback.stopping_threshold}"
    else:
        text = f"{name} is {value:.4g} and passed divergence_threshold={callback.divergence_threshold}"
    return "early_stopping", f"early stopping: {text}", {name: value, "best": best}
