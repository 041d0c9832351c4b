"""Rows of `metrics.csv` as columns: read by Arrow, because a run of a million steps is read in seconds that way."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

Row = tuple[int, dict[str, float]]  # an optimizer step, and what was logged at it
STEP = "step"
_AT_ONCE = 10_000  # rows that are made into Python's values together


class Rows(Sequence[Row]):
    """Rows that are made one by one when they are asked for; `columns` holds null where a cell is empty."""

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
        place = range(len(self))[at]
        return next(iter(Rows(self.columns.slice(place, 1))))

    def __iter__(self) -> Iterator[Row]:
        names = [name for name in self.columns.column_names if name != STEP]
        for batch in self.columns.to_batches(max_chunksize=_AT_ONCE):
            steps = batch[STEP].to_pylist()
            cells = zip(*(batch[name].to_pylist() for name in names), strict=True) if names else ([()] * len(steps))
            for step, row in zip(steps, cells, strict=True):
                yield step, {name: value for name, value in zip(names, row, strict=True) if value is not None}

    def series(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The steps at which a metric was logged, and its values."""
        if name not in self.columns.column_names:
            return np.empty(0), np.empty(0)
        kept = self.columns.select([STEP, name]).filter(pc.is_valid(self.columns[name]))
        return kept[STEP].to_numpy().astype(np.float64), kept[name].to_numpy().astype(np.float64)

    @property
    def last_step(self) -> int:
        """The largest step."""
        return int(pc.max(self.columns[STEP]).as_py())

    def logged(self) -> list[str]:
        """The columns that hold any value."""
        return [name for name in self.columns.column_names if self.columns[name].null_count < len(self)]

    def latest(self) -> dict[str, float]:
        """The last value of every metric, in the order in which they were logged first."""
        found: list[tuple[int, str, float]] = []
        for name in self.columns.column_names:
            known = pc.drop_null(self.columns[name])
            if name != STEP and len(known):
                first = pc.index(self.columns[name].is_valid(), True).as_py()
                found.append((first, name, known[-1].as_py()))
        return {name: value for _, name, value in sorted(found, key=lambda one: one[0])}


def parse(head: bytes, lines: bytes) -> Rows:
    """The rows of whole lines under a header; raises `ValueError` as Python's own `csv` and `float` do."""
    names = next(csv.reader([head.decode("utf-8")]))
    kinds = {name: pa.int64() if name == STEP else pa.float64() for name in names}
    how = arrow_csv.ConvertOptions(column_types=kinds, null_values=[""], quoted_strings_can_be_null=True)
    try:
        if len(kinds) < len(names) or STEP not in kinds:
            raise pa.ArrowInvalid("columns of one name")
        columns = arrow_csv.read_csv(pa.py_buffer(head + lines), convert_options=how) if lines.strip() else None
    except pa.ArrowInvalid:  # what Arrow does not read, Python may
        return _by_python(names, lines)
    if columns is None or columns[STEP].null_count:
        return _by_python(names, lines)
    return Rows(columns)


def _by_python(names: Sequence[str], lines: bytes) -> Rows:
    rows = list(rows_of(csv.DictReader(lines.decode("utf-8").split("\n"), names)))
    values = {name: pa.array([row.get(name) for _, row in rows], pa.float64()) for name in names if name != STEP}
    return Rows(pa.table({STEP: pa.array([step for step, _ in rows], pa.int64()), **values}))


def rows_of(rows: Iterable[Mapping[str, str]]) -> Iterable[Row]:
    """Rows of `metrics.csv` as `(step, values)`; empty cells are left out."""
    for row in rows:
        values = {key: float(value) for key, value in row.items() if value not in ("", None) and key != STEP}
        yield int(row[STEP]), values
