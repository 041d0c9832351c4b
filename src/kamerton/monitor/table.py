"""Rows of `metrics.csv` as columns, read by Arrow, which reads a million steps within seconds."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

Row = tuple[int, dict[str, float]]  # an optimizer step with the values logged at it
STEP = "step"
_CHUNK = 10_000  # rows converted to Python values at once


class Rows(Sequence[Row]):
    """Rows that are converted on access; empty cells are null in `columns`."""

    def __init__(self, columns: pa.Table) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return int(self.columns.num_rows)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | Sequence[Row]:
        if isinstance(at, slice):
            return list(self)[at]
        position = range(len(self))[at]
        return next(iter(Rows(self.columns.slice(position, 1))))

    def __iter__(self) -> Iterator[Row]:
        names = [name for name in self.columns.column_names if name != STEP]
        for batch in self.columns.to_batches(max_chunksize=_CHUNK):
            steps = batch[STEP].to_pylist()
            cells = zip(*(batch[name].to_pylist() for name in names), strict=True) if names else ([()] * len(steps))
            for step, row in zip(steps, cells, strict=True):
                yield step, {name: value for name, value in zip(names, row, strict=True) if value is not None}

    def series(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the steps at which a metric was logged and its values, `[points]` each."""
        if name not in self.columns.column_names:
            return np.empty(0), np.empty(0)
        logged = self.columns.select([STEP, name]).filter(pc.is_valid(self.columns[name]))
        return logged[STEP].to_numpy().astype(np.float64), logged[name].to_numpy().astype(np.float64)

    @property
    def last_step(self) -> int:
        """The largest step."""
        return int(pc.max(self.columns[STEP]).as_py())

    def logged(self) -> list[str]:
        """Return the names of the columns with at least one value."""
        return [name for name in self.columns.column_names if self.columns[name].null_count < len(self)]

    def latest(self) -> dict[str, float]:
        """Return the last value of every metric, in the order of their first values."""
        metrics: list[tuple[int, str, float]] = []
        for name in self.columns.column_names:
            values = pc.drop_null(self.columns[name])
            if name != STEP and len(values):
                first = pc.index(self.columns[name].is_valid(), True).as_py()
                metrics.append((first, name, values[-1].as_py()))
        return {name: value for _, name, value in sorted(metrics, key=lambda metric: metric[0])}


def parse(head: bytes, lines: bytes) -> Rows:
    """Return the rows of complete lines under a header; raises `ValueError` like `csv` and `float`."""
    names = next(csv.reader([head.decode("utf-8")]))
    types = {name: pa.int64() if name == STEP else pa.float64() for name in names}
    options = arrow_csv.ConvertOptions(column_types=types, null_values=[""], quoted_strings_can_be_null=True)
    try:
        if len(types) < len(names) or STEP not in types:
            raise pa.ArrowInvalid("repeated or missing column")
        columns = arrow_csv.read_csv(pa.py_buffer(head + lines), convert_options=options) if lines.strip() else None
    except pa.ArrowInvalid:  # Python's csv may still read it
        return _by_python(names, lines)
    if columns is None or columns[STEP].null_count:
        return _by_python(names, lines)
    return Rows(columns)


def _by_python(names: Sequence[str], lines: bytes) -> Rows:
    rows = list(rows_of(csv.DictReader(lines.decode("utf-8").split("\n"), names)))
    values = {name: pa.array([row.get(name) for _, row in rows], pa.float64()) for name in names if name != STEP}
    return Rows(pa.table({STEP: pa.array([step for step, _ in rows], pa.int64()), **values}))


def rows_of(rows: Iterable[Mapping[str, str]]) -> Iterable[Row]:
    """Yield rows of `metrics.csv` as `(step, values)`, without empty cells."""
    for row in rows:
        values = {key: float(value) for key, value in row.items() if value not in ("", None) and key != STEP}
        yield int(row[STEP]), values
