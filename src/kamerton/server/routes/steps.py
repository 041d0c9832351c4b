"""The metrics of a job's steps under OpenAI's names: kept, and read on as `metrics.csv` grows."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from kamerton.monitor.series import Mark, read_on

# The columns of metrics.csv that a client is shown.
_NAMES = {
    "train/loss": "train_loss",
    "train/token_accuracy": "train_mean_token_accuracy",
    "val/loss": "full_valid_loss",
    "val/token_accuracy": "full_valid_mean_token_accuracy",
    "lr": "learning_rate",
}


class Step(NamedTuple):
    """An optimizer step, counted from 1, and its metrics."""

    number: int
    values: Mapping[str, float]


def steps_of(file: Path) -> tuple[Step, ...]:
    """The steps that a `metrics.csv` has now, in order; of one that was read before, only what is new is read."""
    return _known(file).read()


@lru_cache(maxsize=64)
def _known(file: Path) -> _Steps:
    return _Steps(file)


class _Steps:
    """What is known of one file; many threads may ask."""

    def __init__(self, file: Path) -> None:
        self._file, self._mark, self._lock = file, Mark(), threading.Lock()
        self._values: dict[int, dict[str, float]] = {}
        self._steps: tuple[Step, ...] = ()

    def read(self) -> tuple[Step, ...]:
        with self._lock:
            rows, self._mark, anew = read_on(self._file, self._mark)
            if anew:
                self._values = {}
            for number, row in rows:
                named = {_NAMES[key]: value for key, value in row.items() if key in _NAMES}
                self._values[number] = {**self._values.get(number, {}), **named}
            if rows or anew:
                self._steps = tuple(Step(*one) for one in sorted(self._values.items()))
            return self._steps
