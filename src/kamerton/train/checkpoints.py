"""Checkpoints that survive a kill at any moment, a full disk and a damaged file.

A checkpoint is written beside the old one, flushed to the disk and renamed over it; of `last.ckpt` the generation
before stays as `previous.ckpt`. It is taken when everything about its step is done (trained, logged, validated), so
going on from it repeats nothing and skips nothing.
"""

from __future__ import annotations

import errno
import os
import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from kamerton.errors import Fault, RunFailed, UserError
from kamerton.files import flush, replacing
from kamerton.train.metrics_file import MetricsFile

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
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


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint file, None if it is whole. Compares the checksum of every part of it."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        return f"{type(error).__name__}: {error}"
    return None if broken is None else f"its part {broken} does not match its checksum"


def newest_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint to go on from, None if none was written yet; and what is wrong with newer ones.

    Raises `UserError` when there are checkpoints and all are damaged.
    """
    damaged: list[str] = []
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.exists():
            continue
        reason = damage(path)
        if reason is None:
            return path, damaged
        damaged.append(f"{path} is damaged ({reason})")
    if damaged:
        fix = f"delete {folder} to start this run from its beginning, or give another run_id"
        raise UserError([Fault("checkpoint.damaged", text, fix, file=str(folder)) for text in damaged])
    return None, []


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's plain values and tensors; the tensors are read from the disk only when they are used.

    Raises `UserError` for one that holds objects: reading them would run code.
    """
    try:
        state = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except pickle.UnpicklingError as error:
        message = f"it holds more than plain values: {_reason(error)}"
        fix = "a callback's state_dict must be of numbers, texts, lists and mappings; start anew with another run_id"
        raise UserError([Fault("checkpoint.objects", message, fix, file=str(path))]) from error
    assert isinstance(state, dict)
    return state


def _reason(error: Exception) -> str:
    """The sentence that names the object, of torch's several."""
    found = re.search(r"Unsupported (?:global|class|operand)[^\n.]*(?:\.\w+)*", str(error))
    return found[0] if found else str(error).splitlines()[0]


@dataclass(frozen=True, slots=True)
class Kept:
    """The checkpoint whose weights a run scores and exports, and what it was chosen by.

    `monitor`, `mode` and `value` are None where no metric chose it: the last weights are kept then.
    """

    path: Path
    monitor: str | None = None
    mode: str | None = None
    value: float | None = None


def best_checkpoint(folder: Path) -> Kept:
    """The checkpoint that the run's ModelCheckpoint notes in `last.ckpt` as its best, else `last.ckpt` itself.

    Raises `RunFailed` when a best one is noted and is not there: other weights would take its place without a word.
    """
    callbacks = read_checkpoint(folder / LAST).get("callbacks", {})
    keeper: dict[str, Any] | None = callbacks.get("Recorder", {}).get("keeper")
    if keeper is None:  # of an older run, which does not name it
        keeper = {}
        state: dict[str, Any] = next(filter(_notes_best, callbacks.values()), {})
    else:
        state = callbacks.get(keeper.get("key"), {})
    if not _notes_best(state):
        return Kept(folder / LAST)
    noted, value = Path(state["best_model_path"]), state.get("best_model_score")
    moved = folder / os.path.relpath(noted, state.get("dirpath") or noted.parent)  # the run's directory may be
    path = next((path for path in (moved, noted) if path.exists()), None)
    if path is None:
        fix = "restore the file, or give another run_id to train anew"
        raise RunFailed(Fault("checkpoint.missing", "the checkpoint with the best weights is gone", fix, str(moved)))
    return Kept(path, state.get("monitor"), keeper.get("mode"), None if value is None else float(value))


def _notes_best(state: Any) -> bool:
    return isinstance(state, dict) and bool(state.get("best_model_path"))


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
