"""Times of a metadata field: any format is ordered by time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamerton.data.gate import Prepared
from kamerton.data.options import SplitOptions
from kamerton.data.splits.times import read_time
from kamerton.errors import UserError
from support.rows import pairs

Gate = Callable[..., Prepared]
BY_TIME = SplitOptions(ratios=[0.6, 0.2, 0.2], time="at")
BEGIN, END = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1990, 2100))
SECONDS = st.integers(BEGIN, END)

EPOCHS: dict[str, Callable[[int], object]] = {
    "seconds": lambda s: s,
    "seconds as text": str,
    "fraction": lambda s: s + 0.25,
    "milliseconds": lambda s: str(s * 1000 + 239),
    "microseconds": lambda s: s * 10**6 + 1,
    "nanoseconds": lambda s: f" {s * 10**9 + 7} ",
    "exponent": lambda s: f"{s}e3",
}
ZONES = {"utc": UTC, "west": timezone(timedelta(hours=-7, minutes=-30))}
DATES: dict[str, Callable[[datetime], str]] = {
    "iso": datetime.isoformat,
    "zulu": lambda t: t.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "basic": lambda t: t.strftime("%Y%m%dT%H%M%SZ"),
    "spaced": lambda t: t.strftime("%Y-%m-%d %H:%M:%S"),
    "named": lambda t: t.strftime("%Y-%m-%d %H:%M:%S UTC"),
    "nanoseconds": lambda t: t.strftime("%Y-%m-%dT%H:%M:%S.000000007Z"),
    "offset": lambda t: t.astimezone(ZONES["west"]).isoformat(),
}


@pytest.mark.parametrize("form", EPOCHS)
@given(seconds=st.lists(SECONDS, min_size=2, max_size=20, unique=True))
def test_times_since_1970_keep_their_order_in_every_unit(form: str, seconds: list[int]) -> None:
    result = [read_time(EPOCHS[form](second)) for second in seconds]
    assert {way for way, _ in filter(None, result)} == {"number"}
    assert np.argsort([at for _, at in filter(None, result)]).tolist() == np.argsort(seconds).tolist()


@pytest.mark.parametrize("form", DATES)
@given(seconds=st.lists(SECONDS, min_size=2, max_size=20, unique=True))
def test_dates_keep_their_order_in_every_form(form: str, seconds: list[int]) -> None:
    result = [read_time(DATES[form](datetime.fromtimestamp(second, UTC))) for second in seconds]
    assert result == [("date", second * 10**6) for second in seconds]


@pytest.mark.parametrize("text", ["2026-01", "2026-01-01", "20260101T00", "2026-W01-4", "2026-01-01T01:00+01:00"])
def test_days_weeks_and_months_are_dates(text: str) -> None:
    assert read_time(text) == ("date", int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 10**6)


@pytest.mark.parametrize("value", [True, "soon", "31.01.2026", "1_000", "١٢", "inf", "1e999", "9" * 5000, [1], {}])
def test_what_is_neither_a_number_nor_a_date(value: object) -> None:
    assert read_time(value) is None


@pytest.mark.parametrize("unit", [1, 1000, 10**6, 10**9])
def test_the_newest_rows_are_tested_whatever_the_unit(gate: Gate, unit: int) -> None:
    second = 1_700_000_000
    rows = [row | {"at": str((second + i * 97_003) * unit + 239 * (unit > 1))} for i, row in enumerate(pairs(300))]
    splits = gate(rows, BY_TIME).splits
    ranges = {name: [int(example.metadata["at"]) for example in part] for name, part in splits.items()}
    assert max(ranges["train"]) < min(ranges["validation"]) <= max(ranges["validation"]) < min(ranges["test"])


def bad(gate: Gate, values: list[object], split: SplitOptions = BY_TIME) -> list[tuple[str, int | None]]:
    rows = [row | {"at": values[i % len(values)]} for i, row in enumerate(pairs(60))]
    with pytest.raises(UserError) as caught:
        gate(rows, split)
    return [(fault.code, fault.row) for fault in caught.value.faults if fault.severity == "error"]


@pytest.mark.parametrize(
    "values",
    [["1700000000", "2026-01-31"], ["20260131", "2026-01-31"], [1700000000, 1700000000239], [1.7e15, 1.7e18, 0]],
)
def test_times_in_two_formats_are_one_fault(gate: Gate, values: list[object]) -> None:
    ((code, _),) = bad(gate, values)
    assert code == "bad-time"


def test_counters_and_years_are_numbers_of_no_unit(gate: Gate) -> None:
    for step in (1, 10**4, 10**10, 10**16):
        gate([row | {"at": 10 + i * step} for i, row in enumerate(pairs(120))], BY_TIME)


@pytest.mark.parametrize("missing", [None, "", " \t"])
@pytest.mark.parametrize(
    "split", [BY_TIME, SplitOptions(group="at"), SplitOptions(stratify="at"), SplitOptions(group="at", folds=3)]
)
def test_what_is_missing_is_no_time_no_group_and_no_stratum(gate: Gate, missing: object, split: SplitOptions) -> None:
    rows = [row | {"at": 2000 + i // 3} for i, row in enumerate(pairs(60))]
    rows[7]["at"] = missing
    with pytest.raises(UserError) as caught:
        gate(rows, split)
    faults = {(fault.code, fault.row) for fault in caught.value.faults if fault.severity == "error"}
    assert faults == {("missing-metadata", 8)}
