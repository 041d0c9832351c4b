"""Reading checkpoints: whether a file is whole, the newest whole one, and the best one of a run."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kamerton.errors import Fault, RunFailed, UserError

LAST = "last.ckpt"


PREVIOUS = "previous.ckpt"


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
