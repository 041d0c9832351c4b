"""Progress, metrics and the kept checkpoint of a run, as recorded in `run.json`."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from kamerton.errors import Fault, RunFailed
from kamerton.monitor.series import read_rows
from kamerton.run.checkpoints import LAST, best_checkpoint, read_checkpoint
from kamerton.run.directory import RunDirectory


class Recorder(pl.Callback):
    """Keep progress, ETA, metrics and heartbeat in `run.json` up to date, writing at most once a second."""

    def __init__(
        self,
        run: RunDirectory,
        total_steps: int,
        steps_per_epoch: int,
        examples: int,
        keeper: ModelCheckpoint | None = None,
    ) -> None:
        """`keeper` is the callback that chooses the best checkpoint; without one the last weights are kept."""
        self._run, self._keeper = run, keeper
        self._total_steps, self._steps_per_epoch, self._examples = total_steps, steps_per_epoch, examples
        self._written = 0.0
        self._began = (0.0, 0)  # clock and step at the start of this fit
        self._before = 0.0  # seconds of training before the run was resumed
        self._best: float | None = None

    def state_dict(self) -> dict[str, Any]:
        keeper = self._keeper and {"key": self._keeper.state_key, "mode": self._keeper.mode}
        return {"best": self._best, "seconds": self._seconds(), "keeper": keeper or {}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best, self._before = state_dict["best"], state_dict.get("seconds", 0.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = (time.monotonic(), trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if trainer.is_global_zero and (
            time.monotonic() - self._written > 1 or trainer.global_step == self._total_steps
        ):
            self._write(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:  # early stopping can end the fit at any step
            self._write(trainer, pl_module, eta_s=0.0)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if trainer.is_global_zero:
            self._run.update(progress=self._progress(trainer, pl_module))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        validation = {"step": trainer.global_step, **_metrics(trainer, "val")}
        _check_finite(trainer, validation)
        validation = _defined(validation)
        best = {"best": validation} if self._is_best(trainer) else {}
        self._run.update(metrics={"validation": validation, **best})

    def _is_best(self, trainer: pl.Trainer) -> bool:
        """Return whether this validation is the best so far by the keeper's metric, and remember its value."""
        if self._keeper is None or self._keeper.monitor is None:
            return True  # without a monitored metric the last weights are kept
        monitored = trainer.callback_metrics.get(self._keeper.monitor)
        if monitored is None:
            return False
        value, sign = float(monitored), 1 if self._keeper.mode == "max" else -1
        if self._best is not None and not sign * value > sign * self._best:
            return False
        self._best = value
        return True

    def _write(self, trainer: pl.Trainer, module: pl.LightningModule, **overrides: float) -> None:
        metrics = _metrics(trainer, "train")
        _check_finite(trainer, metrics)
        self._run.update(progress=self._progress(trainer, module) | overrides, metrics={"train": _defined(metrics)})
        self._written = time.monotonic()

    def _progress(self, trainer: pl.Trainer, module: Any) -> dict[str, Any]:
        step = trainer.global_step
        seconds = time.monotonic() - self._began[0]
        rate = (step - self._began[1]) / seconds if seconds else 0.0
        return {
            "epoch": round(step / self._steps_per_epoch, 4),
            "step": step,
            "steps": self._total_steps,
            "examples": {"processed": module.examples_seen, "total": self._examples},
            "tokens": module.tokens_seen,
            "seconds": round(self._seconds(), 3),
            "eta_s": round((self._total_steps - step) / rate, 1) if rate else None,
        }

    def _seconds(self) -> float:
        """Return the seconds of all recorded steps and validations; work lost to an interruption is not counted."""
        return self._before + (time.monotonic() - self._began[0] if self._began[0] else 0.0)


def _check_finite(trainer: pl.Trainer, metrics: dict[str, float]) -> None:
    """Raise `RunFailed` if the loss is not finite: every later value would be NaN too."""
    if not math.isfinite(metrics.get("loss", 0.0)):
        message = f"the loss is {metrics['loss']} at step {trainer.global_step}: the training diverged"
        fix = "lower optimizer.lr, lengthen scheduler.warmup_steps, or set clip_norm; in half precision try 32-true"
        raise RunFailed(Fault("train.diverged", message, fix, column="optimizer.lr"))


def _metrics(trainer: pl.Trainer, prefix: str) -> dict[str, float]:
    """Return the logged metrics `prefix/name` by name."""
    logged = trainer.callback_metrics.items()
    return {key.removeprefix(f"{prefix}/"): float(value) for key, value in logged if key.startswith(f"{prefix}/")}


def _defined(metrics: dict[str, float]) -> dict[str, float]:
    """Return the metrics without those that are undefined on their examples, which are logged as NaN."""
    return {name: value for name, value in metrics.items() if not math.isnan(value)}


def _is_validation(values: Mapping[str, float]) -> bool:
    return any(key.startswith("val/") for key in values)


def record_best(run: RunDirectory) -> None:
    """Record the kept checkpoint as `best`, and the validation of its step as `metrics.best`.

    During training `metrics.best` follows the monitored metric; the step comes from the checkpoint itself. Does nothing
    if no step was trained. Raises `RunFailed` if the best checkpoint is missing.
    """
    if not (run.checkpoints / LAST).exists():
        return
    kept = best_checkpoint(run.checkpoints)
    step = int(read_checkpoint(kept.path)["global_step"])
    metrics = run.record.metrics.get("best", {})
    if metrics.get("step") != step:
        rows = [row for row in read_rows(run.path / "metrics.csv") if row[0] <= step and _is_validation(row[1])]
        metrics = {}
        if rows:  # the latest validation up to the step
            validated_step, values = rows[-1]
            metrics = {key.removeprefix("val/"): value for key, value in values.items() if key.startswith("val/")}
            metrics = {"step": validated_step, **_defined(metrics)}
    run.update(
        best={
            "checkpoint": os.path.relpath(kept.path, run.path),
            "step": step,
            "monitor": kept.monitor,
            "mode": kept.mode,
            "value": kept.value,
        },
        **({"metrics": {"best": metrics}} if metrics else {}),
    )
