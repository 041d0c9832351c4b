"""Times of a metadata field, for splits by time; a column must have a single time format."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from kamerton.data.faults import FaultLog
from kamerton.data.splits.keys import field_values
from kamerton.data.store import Index, Store
from kamerton.errors import Fault

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
MONTH = re.compile(r"\d{4}-\d{2}", re.ASCII)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}  # in a second
FIRST, LAST = 365 * 86_400, 230 * 365 * 86_400  # 1971 to 2199: the ranges of two units do not overlap


def field_times(store: Store, rows: Index, name: str, log: FaultLog) -> npt.NDArray[Any]:
    """Return a metadata field as sortable numbers: [rows].

    Digits are a number (the time since 1970 in a single unit, a year, a version), any other text an ISO date, in UTC
    unless it names a zone, to the microsecond. Logs a fault for a row with neither, for a column with both, and for a
    column whose numbers are times in several units.
    """
    integers = np.zeros(len(rows), np.int64)
    floats: npt.NDArray[np.float64] | None = None  # used for all values if one of them is not an integer
    first: dict[str, int] = {}  # format -> the first row in that format
    for position, row, value in field_values(store, rows, name, log):
        if value is None:
            continue
        moment = read_time(value)
        if moment is None:
            file, line = store.location(row)
            message = f"{name} is {value!r}, which is neither a number nor an ISO date"
            log.add(Fault("bad-time", message, "write 2026-01-31 or 2026-01-31T12:00:00Z", file, line, name))
            continue
        form, number = moment
        first.setdefault(form, row)
        if isinstance(number, float) and floats is None:
            floats = integers.astype(np.float64)
        if floats is not None:
            floats[position] = number
        else:
            integers[position] = number
    result = integers if floats is None else floats
    for fault in _mixed_format_faults(store, name, result, first):
        log.add(fault)
    return result


def read_time(value: object) -> tuple[str, int | float] | None:
    """Return `("number", value)` or `("date", microseconds since 1970)`; None for any other value."""
    if isinstance(value, bool):
        return None
    text = str(value).strip()
    if NUMBER.fullmatch(text):
        number = float(text)
        if not math.isfinite(number):
            return None
        return "number", int(text) if abs(number) < 2**63 and text.lstrip("+-").isdigit() else number
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC") + ("-01" if MONTH.fullmatch(text) else ""))
    except ValueError:
        return None
    return "date", ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // timedelta(microseconds=1)


def _mixed_format_faults(store: Store, name: str, values: npt.NDArray[Any], first: dict[str, int]) -> list[Fault]:
    """Return a fault if the column has numbers and dates, or numbers in several units."""
    fix = "write all of them in one way, such as 2026-01-31T12:00:00Z"
    if len(first) > 1:
        file, row = store.location(max(first.values()))
        places = " and ".join(f"{form}s (row {store.location(at)[1]})" for form, at in sorted(first.items()))
        return [Fault("bad-time", f"{name} has {places}", fix, file, row, name)]
    if "number" not in first:
        return []
    numbers = values[values > 0]
    in_range = {unit: (numbers >= FIRST * size) & (numbers <= LAST * size) for unit, size in UNITS.items()}
    units = [unit for unit, mask in in_range.items() if mask.any()]
    if len(units) < 2 or not np.logical_or.reduce(list(in_range.values())).all():
        return []  # not times: counters, versions
    file = store.location(first["number"])[0]
    return [Fault("bad-time", f"{name} has times since 1970 in {' and in '.join(units)}", fix, file, column=name)]
