"""A metadata field as moments that rows are put in order by; a column is read in one way, or not at all."""

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
FIRST, LAST = 365 * 86_400, 230 * 365 * 86_400  # 1971 and 2199: no number is such a time in two units


def times(store: Store, rows: Index, name: str, log: FaultLog) -> npt.NDArray[Any]:
    """A metadata field as numbers that are in the order of time: [rows].

    Digits are a number (the time since 1970 in any one unit, a year, a version), anything else an ISO date, in UTC
    unless it names a zone, to the microsecond. Faults go to `log`: of a row with neither, of a column with both, and
    of a column whose numbers are times in several units.
    """
    exact = np.zeros(len(rows), np.int64)
    broken: npt.NDArray[np.float64] | None = None  # all of them, if one is no whole number
    first: dict[str, int] = {}  # way of reading -> the first row that is read so
    for place, row, value in field_values(store, rows, name, log):
        if value is None:
            continue
        moment = read_time(value)
        if moment is None:
            file, number = store.place(row)
            message = f"{name} is {value!r}, which is neither a number nor an ISO date"
            log.add(Fault("bad-time", message, "write 2026-01-31 or 2026-01-31T12:00:00Z", file, number, name))
            continue
        way, at = moment
        first.setdefault(way, row)
        if isinstance(at, float) and broken is None:
            broken = exact.astype(np.float64)
        if broken is not None:
            broken[place] = at
        else:
            exact[place] = at
    found = exact if broken is None else broken
    for fault in _mixed(store, name, found, first):
        log.add(fault)
    return found


def read_time(value: object) -> tuple[str, int | float] | None:
    """`("number", it)` or `("date", microseconds since 1970)`; None if it is neither."""
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


def _mixed(store: Store, name: str, found: npt.NDArray[Any], first: dict[str, int]) -> list[Fault]:
    """A fault if the column is read in more than one way."""
    fix = "write all of them in one way, such as 2026-01-31T12:00:00Z"
    if len(first) > 1:
        file, row = store.place(max(first.values()))
        places = " and ".join(f"{way}s (row {store.place(at)[1]})" for way, at in sorted(first.items()))
        return [Fault("bad-time", f"{name} holds {places}", fix, file, row, name)]
    if "number" not in first:
        return []
    numbers = found[found > 0]
    inside = {unit: (numbers >= FIRST * size) & (numbers <= LAST * size) for unit, size in UNITS.items()}
    units = [unit for unit, where in inside.items() if where.any()]
    if len(units) < 2 or not np.logical_or.reduce(list(inside.values())).all():
        return []  # counters and the like
    file = store.place(first["number"])[0]
    return [Fault("bad-time", f"{name} holds times since 1970 in {' and in '.join(units)}", fix, file, column=name)]
