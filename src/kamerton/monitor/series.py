"""The metric stream of a run, as detectors read it: the recent values of each metric, and what never changes.

Metrics are those of `metrics.csv` (`train/loss`, `train/grad_norm`, `lr`, `val/loss`, `perf/...`), one row for each
logged step. Training metrics keep a window, so that a step costs the same however long the run; validations are few and
all kept.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kamerton.monitor.table import STEP, Row, Rows, parse

WINDOW = 100  # steps
FIRST = 10  # steps that count as the beginning

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Setting:
    """What detectors must know of a run: its length in steps, its clipping bound (None: no clipping), its warm-up."""

    steps: int
    clip_norm: float | None = None
    warmup: int = 0


class Series:
    """Rows of metrics in the order of their steps."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.step = 0
        self._recent: dict[str, deque[float]] = {}
        self._first: dict[str, list[float]] = {}
        self._best_level = math.inf
        self._peak_rate = 0.0
        self.validations: list[dict[str, float]] = []

    def add(self, step: int, row: Mapping[str, float]) -> bool:
        """Take in what was logged at a step; whether that was a validation. Rows that go back in time are left out."""
        if step < self.step:
            return False
        self.step = step
        is_validation = "val/loss" in row
        if is_validation:
            level = self.level("train/loss", 20)
            values = {key.removeprefix("val/"): value for key, value in row.items() if key.startswith("val/")}
            self.validations.append({"step": float(step), "train": level, **values})
        for key, value in row.items():
            if not key.startswith("val/") and key != "epoch":
                self._keep(key, float(value))
        if "train/loss" in row and self.count("train/loss") >= FIRST:
            self._best_level = min(self._best_level, self.level("train/loss", FIRST))
        self._peak_rate = max(self._peak_rate, row.get("lr", 0.0))
        return is_validation

    def _keep(self, key: str, value: float) -> None:
        self._recent.setdefault(key, deque(maxlen=WINDOW)).append(value)
        first = self._first.setdefault(key, [])
        if len(first) < FIRST:
            first.append(value)

    def recent(self, key: str, most: int = WINDOW) -> Floats:
        """The last values of a metric, oldest first."""
        values = self._recent.get(key, ())
        return np.array(list(values)[-most:], dtype=np.float64)

    def count(self, key: str) -> int:
        """How many values of a metric are at hand."""
        return len(self._recent.get(key, ()))

    def last(self, key: str) -> float | None:
        """The newest value of a metric, None before the first."""
        values = self._recent.get(key)
        return values[-1] if values else None

    def level(self, key: str, most: int) -> float:
        """The median of the last values; NaN where there are none."""
        values = self.recent(key, most)
        return float(np.median(values)) if len(values) else math.nan

    def start(self, key: str) -> float:
        """The median of a metric over the first steps; NaN before they are complete."""
        first = self._first.get(key, [])
        return float(np.median(first)) if len(first) == FIRST else math.nan

    def first(self, key: str) -> float:
        """The very first value of a metric; NaN before it."""
        return self._first.get(key, [math.nan])[0]

    @property
    def best_level(self) -> float:
        """The lowest level (median of `FIRST` steps) that the training loss has had."""
        return self._best_level

    @property
    def peak_rate(self) -> float:
        """The highest learning rate so far."""
        return self._peak_rate

    @property
    def share(self) -> float:
        """How much of the run is done, from 0 to 1."""
        return self.step / max(1, self.setting.steps)


def spread(values: Floats) -> float:
    """A robust standard deviation: 1.4826 times the median distance from the median (Hampel 1974)."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a `metrics.csv` was read: its header, the last line that was read, and the byte at which that ends."""

    head: bytes = b""
    last: bytes = b""
    end: int = 0


def read_rows(file: Path) -> list[Row]:
    """The rows of a `metrics.csv` as `(step, values)`, without empty cells; none where there is no file.

    The file may be written to meanwhile: a last line that is half written is left out.
    """
    return read_on(file, Mark())[0]


def read_on(file: Path, mark: Mark) -> tuple[list[Row], Mark, bool]:
    """The rows after `mark`, the mark after them, and whether they are all that the file has.

    It is all of them where the file was written anew since: that happens when metrics are new, and when a run goes on.
    """
    try:
        stream = file.open("rb")
    except FileNotFoundError:
        return [], Mark(), True
    with stream:
        head = stream.readline()
        if not head.endswith(b"\n"):
            return [], Mark(), True
        anew = head != mark.head or not _goes_on(stream, mark)
        if anew:
            mark = Mark(head, head, len(head))
            stream.seek(mark.end)
        whole, newline, _ = stream.read().rpartition(b"\n")
    rows = list(parse(head, whole + newline)) if newline else []
    if newline:
        last = whole[whole.rfind(b"\n") + 1 :] + newline
        mark = Mark(head, last, mark.end + len(whole) + len(newline))
    return rows, mark, anew


def read_table(file: Path) -> Rows:
    """The same rows, made one by one when they are asked for; raises `OSError` where there is no file."""
    with file.open("rb") as stream:
        head = stream.readline()
        whole, newline, _ = stream.read().rpartition(b"\n")
    return parse(head, whole + newline) if head.endswith(b"\n") else Rows(pa.table({STEP: pa.array([], pa.int64())}))


def _goes_on(stream: BinaryIO, mark: Mark) -> bool:
    """Whether the last line that was read is still where it was; leaves the stream at its end."""
    stream.seek(mark.end - len(mark.last))
    return stream.read(len(mark.last)) == mark.last
