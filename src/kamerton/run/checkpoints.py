"""Read checkpoints: check a file, find the newest intact one and the best one of a run."""

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
    """Return why a checkpoint file is damaged, None if it is intact. Compares every checksum in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        return f"{type(error).__name__}: {error}"
    return None if broken is None else f"its part {broken} does not match its checksum"


def newest_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the newest intact checkpoint, None if none was written yet; and the damage of newer ones.

    Raises `UserError` if there are checkpoints and all are damaged.
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
        fix = f"delete {folder} to restart this run, or give another run_id"
        raise UserError([Fault("checkpoint.damaged", text, fix, file=str(folder)) for text in damaged])
    return None, []


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's plain values and tensors; tensors are read from disk only when used.

    Raises `UserError` if it contains other objects, because reading them would run code.
    """
    try:
        state = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except pickle.UnpicklingError as error:
        unsupported = re.search(r"Unsupported (?:global|class|operand)[^\n.]*(?:\.\w+)*", str(error))
        reason = unsupported[0] if unsupported else str(error).splitlines()[0]
        message = f"it contains more than plain values: {reason}"
        fix = "keep only numbers, texts, lists and mappings in a callback's state_dict, then train with another run_id"
        raise UserError([Fault("checkpoint.objects", message, fix, file=str(path))]) from error
    assert isinstance(state, dict)
    return state


@dataclass(frozen=True, slots=True)
class Kept:
    """The checkpoint whose weights a run scores and exports, and the metric that selected it.

    `monitor`, `mode` and `value` are None if no metric was monitored; the last weights are kept then.
    """

    path: Path
    monitor: str | None = None
    mode: str | None = None
    value: float | None = None


def best_checkpoint(folder: Path) -> Kept:
    """Return the best checkpoint recorded in `last.ckpt` by the run's ModelCheckpoint, else `last.ckpt` itself.

    Raises `RunFailed` if the recorded file is missing, because other weights would silently replace it.
    """
    callbacks = read_checkpoint(folder / LAST).get("callbacks", {})
    keeper: dict[str, Any] | None = callbacks.get("Recorder", {}).get("keeper")
    if keeper is None:  # an older run did not record it
        keeper = {}
        state: dict[str, Any] = next(filter(_records_best, callbacks.values()), {})
    else:
        state = callbacks.get(keeper.get("key"), {})
    if not _records_best(state):
        return Kept(folder / LAST)
    recorded, value = Path(state["best_model_path"]), state.get("best_model_score")
    # The run directory may have been moved since.
    moved = folder / os.path.relpath(recorded, state.get("dirpath") or recorded.parent)
    path = next((path for path in (moved, recorded) if path.exists()), None)
    if path is None:
        fix = "restore the file, or give another run_id to train again"
        raise RunFailed(Fault("checkpoint.missing", "the checkpoint with the best weights is missing", fix, str(moved)))
    return Kept(path, state.get("monitor"), keeper.get("mode"), None if value is None else float(value))


def _records_best(state: Any) -> bool:
    return isinstance(state, dict) and bool(state.get("best_model_path"))
