"""A `metrics.csv` read as columns has the rows that Python's own reader finds, row by row."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamerton.monitor.series import read_table
from kamerton.monitor.table import Row, Rows, parse, rows_of
from kamerton.report import charts
from kamerton.train.metrics_file import MetricsFile

METRICS = ("train/loss", "lr-group,1", 'odd "name"', "val/loss")
# As files hold them, and some that only Python reads.
CELLS = st.one_of(
    st.just(""),
    st.floats().map(repr),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(["1_000", " 2.5 ", "+3", "Infinity", "NaN", "1e400", "-0", ".5", "5."]),
)
LINES = st.lists(st.tuples(st.integers(-5, 10**9), *(CELLS for _ in METRICS)), max_size=8)


def text_of(lines: list[tuple[object, ...]]) -> tuple[str, str]:
    """Header and lines, as the logger writes them."""
    parts = []
    for rows in ([("step", *METRICS)], lines):
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(rows)
        parts.append(buffer.getvalue())
    return parts[0], parts[1]


def same(rows: list[Row], other: list[Row]) -> bool:
    """Equal rows; NaN equals NaN, and -0.0 is not 0.0."""
    return repr(rows) == repr(other)


@given(LINES)
def test_columns_hold_the_rows_that_python_reads(lines: list[tuple[object, ...]]) -> None:
    head, body = text_of(lines)
    expected = list(rows_of(csv.DictReader(body.splitlines(), ["step", *METRICS])))
    rows = parse(head.encode(), body.encode())
    assert same(list(rows), expected)
    assert len(rows) == len(expected)
    assert same([rows[at] for at in range(len(rows))], expected)
    assert same(list(rows[1:3]), expected[1:3])
    latest: dict[str, float] = {}
    for _, row in expected:
        latest |= row
    assert repr(rows.latest()) == repr(latest)
    if expected:
        assert rows.last_step == max(step for step, _ in expected)
    listed = [{"step": float(step), **row} for step, row in expected]
    assert charts.logged(rows) == charts.logged(listed)
    for name in METRICS:
        for result, expected in zip(charts.series(rows, name), charts.series(listed, name), strict=True):
            assert repr(result.tolist()) == repr(expected.tolist())


@pytest.mark.parametrize("body", ["1,x\n", "one,0.5\n", "1.5,2\n", "1,2,3\n", ",0.5\n"])
def test_what_python_refuses_is_refused(body: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        list(rows_of(csv.DictReader(body.splitlines(), ["step", "loss"])))
    with pytest.raises((ValueError, TypeError)):
        list(parse(b"step,loss\n", body.encode()))


def test_a_file_is_read_up_to_its_last_complete_line(tmp_path: Path) -> None:
    log = MetricsFile(str(tmp_path))
    for step in range(25):
        log.log_metrics({"train/loss": math.nan if step == 3 else 1 / (step + 1)}, step)
        if step % 10 == 0:
            log.log_metrics({"val/loss": step / 2}, step)
        log.save()
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("26,0.")
    rows = read_table(tmp_path / "metrics.csv")
    assert isinstance(rows, Rows)
    assert [step for step, _ in rows] == list(range(1, 26))
    assert rows[20] == (21, {"train/loss": 1 / 21, "val/loss": 10.0})
    assert rows.latest() == {"train/loss": 1 / 25, "val/loss": 10.0}
    (tmp_path / "metrics.csv").write_text("step,train/lo")
    assert len(read_table(tmp_path / "metrics.csv")) == 0
