"""Checkpoints that survive a kill at any moment, a full disk and a damaged file.

A checkpoint is written to a partial file, flushed to the disk and renamed over the old one; the previous `last.ckpt`
is kept as `previous.ckpt`. It is written once its step is trained, logged and validated, so resuming from it neither
repeats nor skips anything.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from kamerton.files import flush, replacing
from kamerton.run.checkpoints import LAST, PREVIOUS
from kamerton.train.metrics_file import MetricsFile

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DurableCheckpoints(TorchCheckpointIO):
    """Lightning plugin that writes checkpoints atomically.

    Lightning's default holds the whole file in memory and moves it from the system's temporary folder: across file
    systems a plain copy, neither atomic nor flushed.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        del storage_options
        write_checkpoint(checkpoint, Path(path))


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Replace `path` atomically by `checkpoint`, flushed to the disk; keep the previous `last.ckpt`.

    Raises `OSError` if it cannot be written; the previous file then remains.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if "callbacks" in checkpoint:
        checkpoint = {**checkpoint, "callbacks": without_numpy(checkpoint["callbacks"])}
    with replacing(path) as partial:
        with partial.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch wraps the cause, such as a full disk
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
        flush(partial)  # before an older checkpoint is replaced
        if path.name == LAST and path.exists():
            _link(path, path.with_name(PREVIOUS))
    flush(path.parent)


def without_numpy(value: Any) -> Any:
    """Replace NumPy scalars in a callback's state: `torch.load(weights_only=True)` refuses them."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {without_numpy(key): without_numpy(inner) for key, inner in value.items()}
    return type(value)(map(without_numpy, value)) if type(value) in (list, tuple) else value


def _link(path: Path, previous: Path) -> None:
    """Make `previous` a hard link of the file at `path`, which keeps a name throughout."""
    name = previous.with_name(f".{previous.name}.link")
    name.unlink(missing_ok=True)
    try:
        os.link(path, name)
    except OSError:  # a file system without hard links
        path.replace(previous)
    else:
        name.replace(previous)


def save_last(trainer: pl.Trainer, folder: Path) -> None:
    """Flush the loggers and write `last.ckpt`: a resumed run keeps exactly the metrics up to its checkpoint."""
    for logger in trainer.loggers:
        logger.save()
        if isinstance(logger, MetricsFile):
            logger.flush()
    trainer.save_checkpoint(folder / LAST)


class LastCheckpoint(pl.Callback):
    """Write `dirpath/last.ckpt` after every `every_n_train_steps` optimizer steps.

    It is written when the next step begins, since only then are the step's metrics logged and its validation complete.
    Lightning's ModelCheckpoint saves earlier, and a run resumed from there skips the validation.
    """

    def __init__(self, dirpath: str, every_n_train_steps: int) -> None:
        self._folder, self._every = Path(dirpath), every_n_train_steps
        self._saved = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved = trainer.global_step

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        step = trainer.global_step
        if step % self._every == 0 and step > self._saved:
            save_last(trainer, self._folder)
            self._saved = step
