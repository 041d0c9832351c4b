"""Stop a run between two steps: on Ctrl-C, SIGTERM, or SLURM's warning before a time limit (`--signal=USR1@120`).

The run saves a checkpoint first. After SLURM's warning the job is queued again and resumes the run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loops.evaluation_loop import RestartStage

from kamerton.errors import Interrupted
from kamerton.run.distributed import rank_info
from kamerton.train.checkpoints import save_last

_SLURM_WARNING = signal.SIGUSR1


class StopRequest:
    """Set by the first Ctrl-C or SIGTERM, or by SLURM's warning; a second Ctrl-C or SIGTERM stops at once."""

    def __init__(self) -> None:
        self.requested = False
        self.warned = False  # by SLURM: the job will be queued again

    def check(self) -> None:
        """Raise `Interrupted` if a stop was requested."""
        if self.requested:
            raise Interrupted

    def listen(self) -> dict[int, Any]:
        """Install this request as signal handler and return the previous handlers; empty outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        numbers = [signal.SIGINT, signal.SIGTERM]
        if "SLURM_JOB_ID" in os.environ:
            numbers.append(_SLURM_WARNING)
        return {number: signal.signal(number, self) for number in numbers}

    def __call__(self, number: int, frame: FrameType | None) -> None:
        del frame
        warned = number == _SLURM_WARNING
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
    """Turn Ctrl-C and SIGTERM into a stop request instead of ending the process in the middle of a step.

    A run stopped by SLURM's warning is queued again.
    """
    request = StopRequest()
    previous = request.listen()
    try:
        yield request
    except Interrupted:
        if request.warned:
            _requeue()
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _requeue() -> None:
    """Ask SLURM, on rank 0 only, to queue this job again; the job then resumes the run."""
    if rank_info().rank > 0:
        return
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60, check=False)
        problem = done.stderr.strip() if done.returncode else None
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem is not None:
        print(f"SLURM did not requeue job {job}: {problem}\n    fix: submit it again", file=sys.stderr)


class SaveAndStop(pl.Callback):
    """Save `last.ckpt` once the current step is complete and raise `Interrupted`, if a stop was requested.

    A step is complete when the next one begins: its metrics are logged and its validation has run by then. Validation
    itself is interrupted, and the resumed run repeats it from its beginning. Only the validation of the last step is
    finished first, because Lightning does not resume a run with no steps left.
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
        # Replaces Lightning's handlers, which would end the run before this callback saves; removed after the fit.
        self._request.listen()
        # Lightning counts a step that was started but not run, so validation would come a step early.
        trainer.fit_loop.epoch_loop.batch_progress.total.reset_on_restart()
        if self._validation_due:
            validation = trainer.fit_loop.epoch_loop.val_loop
            validation._restart_stage = RestartStage.RESTARTED_MID_EVALUATION
            validation.batch_progress.reset()
            self._validation_due = False

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        # Loggers use the batch count, which is one too high after some restarts; a batch is a step here.
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
        if self._stop_requested(trainer):
            self._save_and_stop(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stop_validation(trainer)

    def on_validation_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.world_size == 1:  # several ranks would have to agree at every batch
            self.stop_validation(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._finished = True
        save_last(trainer, self._folder)

    def stop_validation(self, trainer: pl.Trainer) -> None:
        """Save and raise `Interrupted` if a stop was requested, unless this is the validation of the last step."""
        if not trainer.sanity_checking and trainer.global_step < self._total_steps and self._stop_requested(trainer):
            self._validation_due = True
            self._save_and_stop(trainer)

    def _stop_requested(self, trainer: pl.Trainer) -> bool:
        return trainer.strategy.reduce_boolean_decision(self._request.requested, all=False)

    def _save_and_stop(self, trainer: pl.Trainer) -> None:
        save_last(trainer, self._folder)
        raise Interrupted
