"""The metrics of a job's steps under OpenAI's names: cached, and read incrementally as `metrics.csv` grows."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from kamerton.hosted.progress import COMPARED, REWARDED
from kamerton.monitor.series import Mark, read_on

# Columns of metrics.csv and their names in responses; those of preferences and `REWARDED` are no names of OpenAI's.
_NAMES = {
    "train/loss": "train_loss",
    "train/token_accuracy": "train_mean_token_accuracy",
    "val/loss": "full_valid_loss",
    "val/token_accuracy": "full_valid_mean_token_accuracy",
    "lr": "learning_rate",
    "train/reward": "train_mean_reward",
    "val/reward": "full_valid_mean_reward",
    "train/length": "completion_tokens_mean",
    **{f"train/{name}": f"train_{name}" for name in (*COMPARED, *REWARDED)},
    **{f"val/{name}": f"full_valid_{name}" for name in COMPARED},
}


class Step(NamedTuple):
    """An optimizer step, counted from 1, and its metrics."""

    number: int
    values: Mapping[str, float]


def steps_of(file: Path) -> tuple[Step, ...]:
    """Return the current steps of a `metrics.csv` in order; only rows added since the last call are read."""
    return _reader(file).read()


class _Steps:
    """Incremental reader of one file; thread-safe."""

    def __init__(self, file: Path) -> None:
        self._file, self._mark, self._lock = file, Mark(), threading.Lock()
        self._values: dict[int, dict[str, float]] = {}
        self._steps: tuple[Step, ...] = ()

    def read(self) -> tuple[Step, ...]:
        with self._lock:
            rows, self._mark, replaced = read_on(self._file, self._mark)
            if replaced:
                self._values = {}
            for number, row in rows:
                metrics = {_NAMES[key]: value for key, value in row.items() if key in _NAMES}
                self._values[number] = {**self._values.get(number, {}), **metrics}
            if rows or replaced:
                self._steps = tuple(Step(*item) for item in sorted(self._values.items()))
            return self._steps


_reader = lru_cache(maxsize=64)(_Steps)  # one per file
