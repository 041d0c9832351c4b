"""Values derived from others unless they are given: the mode of a callback, and the number of epochs.

They are filled in as soon as a configuration is composed, so that checks, run directories and runs see the same ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from kamerton.config.schema import CvOptions
from kamerton.data.options import SplitOptions
from kamerton.direction import mode_of

WATCHERS = ("EarlyStopping", "ModelCheckpoint")  # Lightning's callbacks with a `monitor` and its `mode`


def fill_in(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with derived ones in place of null and auto.

    `mode` of early stopping and of checkpoints is the direction of the metric that they monitor. `trainer.max_epochs`
    is 1, or -1 (no limit) if `trainer.max_steps` ends the run.
    """
    callbacks, trainer = values.get("callbacks"), values.get("trainer")
    if isinstance(callbacks, Mapping):
        values = {**values, "callbacks": {name: _with_mode(node) for name, node in callbacks.items()}}
    if isinstance(trainer, Mapping) and "max_epochs" in trainer and trainer["max_epochs"] in (None, "auto"):
        limited = trainer.get("max_steps") not in (None, -1)
        values = {**values, "trainer": {**trainer, "max_epochs": -1 if limited else 1}}
    return values


def fold_of(split: SplitOptions, cv: CvOptions, number: int, held_out: str = "test") -> SplitOptions:
    """Return `split` with fold `number` of `cv` as its test or validation split."""
    group, stratify = cv.group or split.group, cv.stratify or split.stratify
    return dataclasses.replace(split, folds=cv.folds, fold=number, held_out=held_out, group=group, stratify=stratify)


def watches(node: Any) -> bool:
    """Whether a callback is one of those of Lightning that monitor a metric."""
    return isinstance(node, Mapping) and str(node.get("_target_", "")).rpartition(".")[2] in WATCHERS


def _with_mode(node: Any) -> Any:
    if not watches(node) or node.get("mode") is not None or not isinstance(node.get("monitor"), str):
        return node
    mode, rest = mode_of(node["monitor"]), {key: value for key, value in node.items() if key != "mode"}
    return rest if mode is None else {**rest, "mode": mode}
