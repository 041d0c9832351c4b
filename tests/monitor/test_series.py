"""Reading `metrics.csv` incrementally gives the same result as reading it once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamerton.monitor.series import Mark, Row, read_on, read_rows
from kamerton.train.metrics_file import MetricsFile

METRICS = ("train/loss", "lr", "val/loss")


@given(st.lists(st.one_of(st.integers(0, 8), st.sampled_from(METRICS), st.just("look")), max_size=25))
def test_reading_on_gives_what_reading_anew_would(
    tmp_path_factory: pytest.TempPathFactory, moves: list[int | str]
) -> None:
    """A number resumes the run at that step; the name of a metric logs it at the next one."""
    folder = tmp_path_factory.mktemp("run")
    file, log, step, mark = folder / "metrics.csv", MetricsFile(str(folder)), 0, Mark()
    rows_so_far: list[Row] = []
    for move in [*moves, "look"]:
        if isinstance(move, int):
            step = min(step, move)
            log = MetricsFile(str(folder), step)
        elif move == "look":
            rows, mark, anew = read_on(file, mark)
            rows_so_far = rows if anew else rows_so_far + rows
            assert rows_so_far == read_rows(file)
        else:
            log.log_metrics({move: step / 4}, step)
            log.save()
            step += 1


def test_a_partial_line_is_read_once_it_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    assert read_on(file, Mark()) == ([], Mark(), True)
    for text, result in (
        ("step,lo", []),
        ("step,loss\n1,0.5\n2,1.2e", [(1, {"loss": 0.5})]),
        ("step,loss\n1,0.5\n2,1.2e-3\n", [(1, {"loss": 0.5}), (2, {"loss": 0.0012})]),
    ):
        file.write_text(text)
        assert read_rows(file) == result
    _, mark, _ = read_on(file, Mark())
    with file.open("a") as more:
        more.write("3,")
    assert read_on(file, mark) == ([], mark, False)
    with file.open("a") as more:
        more.write("4\n")
    assert read_on(file, mark)[0] == [(3, {"loss": 4.0})]
