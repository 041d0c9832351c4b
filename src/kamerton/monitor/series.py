"""The metrics of a run as detectors read them: the recent values of each metric, and constants of the run.

Metrics are those of `metrics.csv` (`train/loss`, `train/grad_norm`, `lr`, `val/loss`, `perf/...`), one row for each
logged step. Training metrics are kept in a window, so that the cost of a step is constant; all validations are kept.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kamerton.monitor.table import STEP, Row, Rows, parse

WINDOW = 100  # steps
FIRST = 10  # steps that count as the beginning

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Setting:
    """Constants of a run: number of steps, clipping bound (None: no clipping), warm-up steps, objective."""

    steps: int
    clip_norm: float | None = None
    warmup: int = 0
    objective: str = "sft"


class Series:
    """Rows of metrics in the order of their steps."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.step = 0
        self._recent: dict[str, deque[float]] = {}
        self._first: dict[str, list[float]] = {}
        self._ranges: dict[str, tuple[float, float]] = {}
        self._best_level = math.inf
        self._peak_rate = 0.0
        self.validations: list[dict[str, float]] = []

    def add(self, step: int, row: Mapping[str, float]) -> bool:
        """Add the values logged at a step and return whether it was a validation; rows of earlier steps are ignored."""
        if step < self.step:
            return False
        self.step = step
        is_validation = "val/loss" in row
        if is_validation:
            levels = {"train": self.level("train/loss", 20), "latest_train": self.level("train/loss", 3)}
            values = {key.removeprefix("val/"): value for key, value in row.items() if key.startswith("val/")}
            self.validations.append({"step": float(step), **levels, **values})
        for key, value in row.items():
            if not key.startswith("val/") and key != "epoch":
                self._recent.setdefault(key, deque(maxlen=WINDOW)).append(float(value))
                first = self._first.setdefault(key, [])
                if len(first) < FIRST:
                    first.append(float(value))
                if math.isfinite(value):
                    low, high = self._ranges.get(key, (value, value))
                    self._ranges[key] = min(low, value), max(high, value)
        if "train/loss" in row and self.count("train/loss") >= FIRST:
            self._best_level = min(self._best_level, self.level("train/loss", FIRST))
        self._peak_rate = max(self._peak_rate, row.get("lr", 0.0))
        return is_validation

    def recent(self, key: str, most: int = WINDOW) -> Floats:
        """Return the last values of a metric, oldest first, `[up to most]`."""
        values = self._recent.get(key, ())
        return np.array(list(values)[-most:], dtype=np.float64)

    def count(self, key: str) -> int:
        """Return the number of kept values of a metric."""
        return len(self._recent.get(key, ()))

    def last(self, key: str) -> float | None:
        """Return the latest value of a metric; None if there is none yet."""
        values = self._recent.get(key)
        return values[-1] if values else None

    def level(self, key: str, most: int) -> float:
        """Return the median of the last `most` values; NaN if there are none."""
        values = self.recent(key, most)
        return float(np.median(values)) if len(values) else math.nan

    def start(self, key: str) -> float:
        """Return the median of a metric over the first `FIRST` values; NaN if there are fewer."""
        first = self._first.get(key, [])
        return float(np.median(first)) if len(first) == FIRST else math.nan

    def beginning(self, key: str) -> Floats:
        """Return the first values of a metric, `[up to FIRST]`."""
        return np.array(self._first.get(key, ()), dtype=np.float64)

    def range(self, key: str) -> tuple[float, float]:
        """Return the lowest and the highest finite value of a metric so far; NaN if there are none."""
        return self._ranges.get(key, (math.nan, math.nan))

    def names(self, prefix: str) -> list[str]:
        """Return the names of the metrics so far that begin with `prefix`."""
        return [name for name in self._recent if name.startswith(prefix)]

    def first(self, key: str) -> float:
        """Return the first value of a metric; NaN if there is none yet."""
        return self._first.get(key, [math.nan])[0]

    @property
    def best_level(self) -> float:
        """The lowest level (median of `FIRST` steps) of the training loss so far."""
        return self._best_level

    @property
    def peak_rate(self) -> float:
        """The highest learning rate so far."""
        return self._peak_rate

    @property
    def learns_preferences(self) -> bool:
        """Whether the run learns from preferences: its loss is not in nats per token."""
        return "train/preference_accuracy" in self._recent

    @property
    def learns_rewards(self) -> bool:
        """Whether the run learns from rewards: its loss is about 0 by construction."""
        return "train/reward" in self._recent

    @property
    def share(self) -> float:
        """The completed share of the run, from 0 to 1."""
        return self.step / max(1, self.setting.steps)


def spread(values: Floats) -> float:
    """Return a robust standard deviation: 1.4826 times the median distance from the median (Hampel 1974)."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


@dataclass(frozen=True, slots=True)
class Mark:
    """A position in a `metrics.csv`: its header, the last line read, and the offset of that line's end in bytes."""

    head: bytes = b""
    last: bytes = b""
    end: int = 0


def read_rows(file: Path) -> list[Row]:
    """Return the rows of a `metrics.csv` as `(step, values)`, without empty cells; none if there is no file.

    The file may be written to at the same time: an incomplete last line is left out.
    """
    return read_on(file, Mark())[0]


def read_on(file: Path, mark: Mark) -> tuple[list[Row], Mark, bool]:
    """Return the rows after `mark`, the mark after them, and whether they are all rows of the file.

    They are all rows if the file has been rewritten since: because of new metrics, or because the run was resumed.
    """
    try:
        stream = file.open("rb")
    except FileNotFoundError:
        return [], Mark(), True
    with stream:
        head = stream.readline()
        if not head.endswith(b"\n"):
            return [], Mark(), True
        is_rewritten = head != mark.head
        if not is_rewritten:
            stream.seek(mark.end - len(mark.last))
            is_rewritten = stream.read(len(mark.last)) != mark.last
        if is_rewritten:
            mark = Mark(head, head, len(head))
            stream.seek(mark.end)
        lines, newline, _ = stream.read().rpartition(b"\n")
    rows = list(parse(head, lines + newline)) if newline else []
    if newline:
        last = lines[lines.rfind(b"\n") + 1 :] + newline
        mark = Mark(head, last, mark.end + len(lines) + len(newline))
    return rows, mark, is_rewritten


def read_table(file: Path) -> Rows:
    """Return the rows of a `metrics.csv`, converted on access; raises `OSError` if there is no file."""
    with file.open("rb") as stream:
        head = stream.readline()
        lines, newline, _ = stream.read().rpartition(b"\n")
    return parse(head, lines + newline) if head.endswith(b"\n") else Rows(pa.table({STEP: pa.array([], pa.int64())}))
