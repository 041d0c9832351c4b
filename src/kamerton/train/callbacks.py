"""What happens between optimizer steps besides training: recording progress, and stopping when asked."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint, RichModelSummary, RichProgressBar
from pytorch_lightning.loops.evaluation_loop import RestartStage
from rich import get_console
from rich.table import Table

from kamerton.errors import Fault, Interrupted, RunFailed
from kamerton.run.directory import RunDirectory
from kamerton.train.checkpoints import save_last
from kamerton.train.requeue import SIGNAL, in_slurm, requeue


class StopRequest:
    """Set by the first Ctrl-C or SIGTERM, or by SLURM's warning; a second Ctrl-C or SIGTERM stops at once."""

    def __init__(self) -> None:
        self.requested = False
        self.warned = False  # by SLURM: the job is to be queued again

    def check(self) -> None:
        """Raise `Interrupted` if a stop was asked for."""
        if self.requested:
            raise Interrupted

    def listen(self) -> dict[int, Any]:
        """Let the signals set this request; returns the handlers before. Only the main thread may do so."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        numbers = (signal.SIGINT, signal.SIGTERM, *([SIGNAL] if in_slurm() else []))
        return {number: signal.signal(number, self) for number in numbers}

    def __call__(self, number: int, frame: FrameType | None) -> None:
        del frame
        warned = number == SIGNAL
        if self.requested and not warned:
            raise KeyboardInterrupt
        if self.requested:
            return
        self.requested, self.warned = True, warned
        print(
            f"\n{signal.Signals(number).name}: saving, then stopping (once more to stop at once)",
            file=sys.stderr,
        )


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Ctrl-C and SIGTERM ask for a stop instead of tearing the process down in the middle of a step.

    A run that SLURM's warning stopped is queued again.
    """
    request = StopRequest()
    before = request.listen()
    try:
        yield request
    except Interrupted:
        if request.warned:
            requeue()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class SaveAndStop(pl.Callback):
    """When a stop was asked for: saves `last.ckpt` as soon as the step is done, then raises `Interrupted`.

    A step is done when the next one begins: its metrics are logged then, and its validation has run. A stop during
    validation does not wait for the end of it: the run goes on with that validation from its beginning. Only the
    validation of the last step is finished first, because Lightning does not take up a run that has no step left.
    """

    def __init__(self, request: StopRequest, folder: Path, total_steps: int) -> None:
        self._request, self._folder, self._total_steps = request, folder, total_steps
        self._validation_due = False
        self._finished = False

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["validation_due"], checkpoint["finished"] = self._validation_due, self._finished

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._validation_due = checkpoint["validation_due"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning has added a handler that ends the run before this callback saves. It takes it away after the fit.
        self._request.listen()
        # A step that had begun but not run is counted by Lightning, and validation would come a step early.
        trainer.fit_loop.epoch_loop.batch_progress.total.reset_on_restart()
        if self._validation_due:
            validation = trainer.fit_loop.epoch_loop.val_loop
            validation._restart_stage = RestartStage.RESTARTED_MID_EVALUATION
            validation.batch_progress.reset()
            self._validation_due = False

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        # Loggers count batches, and Lightning counts one too many after some restarts; a batch is a step here.
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
        if self._asked(trainer):
            self._save_and_stop(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop_validation(trainer)

    def on_validation_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.world_size == 1:  # several ranks would have to agree at every batch
            self._stop_validation(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._finished = True
        save_last(trainer, self._folder)

    def _asked(self, trainer: pl.Trainer) -> bool:
        return trainer.strategy.reduce_boolean_decision(self._request.requested, all=False)

    def _stop_validation(self, trainer: pl.Trainer) -> None:
        if not trainer.sanity_checking and trainer.global_step < self._total_steps and self._asked(trainer):
            self._validation_due = True
            self._save_and_stop(trainer)

    def _save_and_stop(self, trainer: pl.Trainer) -> None:
        save_last(trainer, self._folder)
        raise Interrupted


class ProgressBar(RichProgressBar):
    """Lightning's bar with the three numbers that people watch, counting to the end of the run if that is nearer."""

    @property
    def total_train_batches(self) -> int | float:
        total, most = super().total_train_batches, self.trainer.max_steps
        return total if most == -1 else min(total, most)

    def _get_train_description(self, current_epoch: int) -> str:
        """Lightning counts epochs from 0, also where there is only one."""
        epochs = self.trainer.max_epochs
        text = "Training" if epochs == 1 else f"Epoch {current_epoch + 1}"
        text += f"/{epochs}" if epochs is not None and epochs > 1 else ""
        return text.ljust(len(self.validation_description))  # or the bars would flicker

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        shown = {"train/loss": "loss", "val/loss": "val loss", "perf/tokens_per_s": "tok/s"}
        values = {
            name: float(trainer.callback_metrics[key]) for key, name in shown.items() if key in trainer.callback_metrics
        }
        return {name: f"{value:.0f}" if name == "tok/s" else f"{value:.3f}" for name, value in values.items()}


class ModelSummary(RichModelSummary):
    """Lightning's table of the model without the FLOPs, which are always 0: no example input is given to it."""

    @staticmethod
    def summarize(
        summary_data: list[tuple[str, list[str]]],
        total_parameters: int,
        trainable_parameters: int,
        model_size: float,
        *_: Any,
        **__: Any,
    ) -> None:
        shown = {name.strip(): values for name, values in summary_data if name != "FLOPs"}
        table = Table(*shown, header_style="bold")
        for row in zip(*shown.values(), strict=True):
            table.add_row(*row)
        console = get_console()
        console.print(table)
        share = trainable_parameters / total_parameters if total_parameters else 0.0
        size = f"{total_parameters:,} parameters ({model_size:,.0f} MB)"
        console.print(f"{size}, {trainable_parameters:,} of them trained ({share:.2%})", highlight=False)


class Recorder(pl.Callback):
    """Keeps `run.json` up to date: progress, ETA, metrics, heartbeat; at most once a second."""

    def __init__(
        self,
        run: RunDirectory,
        total_steps: int,
        steps_per_epoch: int,
        examples: int,
        keeper: ModelCheckpoint | None = None,
    ) -> None:
        """`keeper` chooses the weights that the run keeps; without one they are the last."""
        self._run, self._keeper = run, keeper
        self._total_steps, self._steps_per_epoch, self._examples = total_steps, steps_per_epoch, examples
        self._written = 0.0
        self._began = (0.0, 0)
        self._before = 0.0  # seconds of training until the run was taken up again
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
        if trainer.is_global_zero:  # early stopping ends the fit at any step
            self._write(trainer, pl_module, eta_s=0.0)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if trainer.is_global_zero:
            self._run.update(progress=self._progress(trainer, pl_module))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        found = {"step": trainer.global_step, **_group(trainer, "val")}
        _check_finite(trainer, found)
        self._run.update(metrics={"validation": found, **({"best": found} if self._is_best(trainer) else {})})

    def _is_best(self, trainer: pl.Trainer) -> bool:
        """Whether the weights of this validation are the best so far, by the metric that chooses them."""
        if self._keeper is None or self._keeper.monitor is None:
            return True  # the last weights are kept
        found = trainer.callback_metrics.get(self._keeper.monitor)
        if found is None:
            return False
        value, sign = float(found), 1 if self._keeper.mode == "max" else -1
        if self._best is not None and not sign * value > sign * self._best:
            return False
        self._best = value
        return True

    def _write(self, trainer: pl.Trainer, module: pl.LightningModule, **known: float) -> None:
        progress, found = self._progress(trainer, module) | known, _group(trainer, "train")
        _check_finite(trainer, found)
        self._run.update(progress=progress, metrics={"train": found})
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
        """What the steps so far took with their validations, without what an interruption lost."""
        return self._before + (time.monotonic() - self._began[0] if self._began[0] else 0.0)


def _check_finite(trainer: pl.Trainer, metrics: dict[str, float]) -> None:
    """Raises `RunFailed` when the loss is no number any more: nothing that follows would be one."""
    if not math.isfinite(metrics.get("loss", 0.0)):
        message = f"the loss is {metrics['loss']} at step {trainer.global_step}: the training diverged"
        fix = "lower optimizer.lr, lengthen scheduler.warmup_steps, or set clip_norm; in half precision try 32-true"
        raise RunFailed(Fault("train.diverged", message, fix, column="optimizer.lr"))


def _group(trainer: pl.Trainer, prefix: str) -> dict[str, float]:
    """Logged metrics `prefix/name` by their names."""
    found = trainer.callback_metrics.items()
    return {key.removeprefix(f"{prefix}/"): float(value) for key, value in found if key.startswith(f"{prefix}/")}
