"""metrics.csv has every logged step once, also after an interruption."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytorch_lightning.utilities import rank_zero_only

from kamerton.train.metrics_file import MetricsFile


def rows(folder: Path) -> dict[int, dict[str, str]]:
    """Return the values of each step in the file; none may occur twice."""
    rows_by_step: dict[int, dict[str, str]] = {}
    with (folder / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            values = {key: value for key, value in row.items() if value and key not in ("step", "epoch")}
            merged_row = rows_by_step.setdefault(int(row["step"]), {})
            assert not merged_row.keys() & values.keys()
            merged_row |= values
    return rows_by_step


def test_metrics_of_one_step_share_a_row_and_later_columns_fit_in(tmp_path: Path) -> None:
    log = MetricsFile(str(tmp_path))
    log.log_metrics({"train/loss": 3.0}, 0)
    log.log_metrics({"lr": 0.1}, 0)
    log.log_metrics({"train/loss": 2.0}, 1)
    log.log_metrics({"val/loss": 2.5}, 1)
    log.finalize("success")
    assert rows(tmp_path) == {
        1: {"train/loss": "3.0", "lr": "0.1"},
        2: {"train/loss": "2.0", "val/loss": "2.5"},
    }
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 3


@given(st.integers(0, 12), st.integers(0, 12), st.sets(st.integers(0, 20), max_size=6))
def test_an_interrupted_file_ends_up_like_an_uninterrupted_one(
    tmp_path_factory: pytest.TempPathFactory, checkpoint: int, killed: int, validated: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("run")

    def log_steps(log: MetricsFile, first: int, last: int) -> None:
        for step in range(first, last):
            log.log_metrics({"train/loss": step / 2, "epoch": 0}, step)
            if step in validated:
                log.log_metrics({"val/loss": step / 3}, step)
            if step % 3 == 0:
                log.save()

    straight = MetricsFile(str(folder / "straight"))
    (folder / "straight").mkdir()
    log_steps(straight, 0, 20)
    straight.finalize("success")
    (folder / "killed").mkdir()
    first = MetricsFile(str(folder / "killed"))
    log_steps(first, 0, checkpoint + killed)  # then killed: whatever was not written is lost
    if checkpoint > 0:
        first.save()
    resumed = MetricsFile(str(folder / "killed"), step=checkpoint)
    log_steps(resumed, checkpoint, 20)
    resumed.finalize("success")
    assert rows(folder / "killed") == rows(folder / "straight")


@pytest.mark.parametrize("step", [0, 1])
def test_only_rank_0_touches_the_file_of_a_run_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """All ranks open it at the same moment."""
    file = tmp_path / "metrics.csv"
    file.write_text("step,epoch,train/loss\n1,0,3.0\n2,0,2.0\n")
    before = file.stat()
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    MetricsFile(str(tmp_path), step=step)
    assert (file.stat().st_ino, file.stat().st_size) == (before.st_ino, before.st_size)
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    MetricsFile(str(tmp_path), step=step)
    assert list(rows(tmp_path) if file.exists() else {}) == list(range(1, step + 1))


def test_a_truncated_last_line_is_not_a_row(tmp_path: Path) -> None:
    text = "step,epoch,train/loss\n1,0,3.0\n2,0,2.0\n31,0,1.5\n"
    for cut in range(len(text) - 9, len(text)):  # within the last line
        (tmp_path / "metrics.csv").write_text(text[:cut])
        log = MetricsFile(str(tmp_path), step=10)
        assert list(rows(tmp_path)) == [1, 2]
        assert log.damage is None


@pytest.mark.parametrize(
    ("damaged", "kept"),
    [
        (b"step,epoch,train/loss\n1,0,3.0\n\xff\xfe,0,2.0\n3,0,1.0\n", [1, 3]),
        (b"step,epoch,train/loss\n1,0,3.0\n2\n3,0,1.0,9\nx,0,1.0\n4,0,1.0\n", [1, 4]),
        (b"step,epoch,train/loss\n1,0,3.0\n\0\0\0\0\n", [1]),
        (b"\xff\xfe\n1,0,3.0\n", []),
        (b"loss,epoch\n1,0\n", []),
        (b"step,step\n1,0\n", []),
    ],
)
def test_unreadable_lines_are_counted_and_the_run_resumes(tmp_path: Path, damaged: bytes, kept: list[int]) -> None:
    (tmp_path / "metrics.csv").write_bytes(damaged)
    log = MetricsFile(str(tmp_path), step=10)
    assert log.damage is not None
    assert (tmp_path / "metrics.damaged.csv").read_bytes() == damaged
    log.log_metrics({"train/loss": 0.5}, 10)
    log.finalize("success")
    assert list(rows(tmp_path)) == [*kept, 11]
    assert rows(tmp_path)[11] == {"train/loss": "0.5"}
