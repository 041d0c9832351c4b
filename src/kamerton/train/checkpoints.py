"""Checkpoints that survive a kill at any moment, a full disk and a damaged file.

A checkpoint is written beside the old one, flushed to the disk and renamed over it; of `last.ckpt` the generation
before stays as `previous.ckpt`. It is taken when everything about its step is done (trained, logged, validated), so
going on from it repeats nothing and skips nothing.
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
    """How the trainer writes its checkpoints.

    Lightning's own way holds the whole file in memory, and moves it over from the system's temporary folder: a plain
    copy, neither atomic nor flushed, wherever that is another disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        del storage_options
        write_checkpoint(checkpoint, Path(path))


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write `checkpoint` so that `path` is at every moment the old file or the new one, whole and on the disk.

    Raises `OSError` when it cannot be written; whatever was there before is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        with partial.open("wb") as file:
            _dump(checkpoint, file)
        flush(partial)  # before an older generation goes
        if path.name == LAST and path.exists():
            _keep(path, path.with_name(PREVIOUS))
    flush(path.parent)


def _dump(checkpoint: dict[str, Any], file: Any) -> None:
    if "callbacks" in checkpoint:
        checkpoint = {**checkpoint, "callbacks": _plain(checkpoint["callbacks"])}
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:  # torch hides the reason, such as a full disk, behind one of its own
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _plain(value: Any) -> Any:
    """What a callback keeps, without numpy's scalars: a checkpoint with one in it could not be read again."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {_plain(key): _plain(one) for key, one in value.items()}
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value


def _keep(path: Path, previous: Path) -> None:
    """Make `previous` another name of the file at `path`, which is never without a name meanwhile."""
    name = previous.with_name(f".{previous.name}.link")
    name.unlink(missing_ok=True)
    try:
        os.link(path, name)
    except OSError:  # a file system without hard links
        path.replace(previous)
    else:
        name.replace(previous)


def save_last(trainer: pl.Trainer, folder: Path) -> None:
    """Write `last.ckpt`, after what was logged so far: a resumed run keeps exactly the rows up to its checkpoint."""
    for logger in trainer.loggers:
        logger.save()
        if isinstance(logger, MetricsFile):
            logger.flush()
    trainer.save_checkpoint(folder / LAST)


class LastCheckpoint(pl.Callback):
    """Writes `dirpath/last.ckpt` after every `every_n_train_steps` optimizer steps.

    It does so when the next step begins, since only then the step's metrics are logged and the validation that
    belongs to it has run. Lightning's ModelCheckpoint saves before that, and a run resumed there skips the validation.
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
