"""The scores table on disk, written by this version and by earlier ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kamerton.decide.compare.examples import changed, worst
from kamerton.errors import UserError
from kamerton.score.intervals import intervals
from kamerton.score.metrics import compute
from kamerton.score.table import read_scores, scores_table, write_scores

ROW: dict[str, Any] = {
    "example_id": "a",
    "prompt": "p",
    "target": "yes",
    "label": "yes",
    "predicted_label": "no",
    "prediction": "no",
    "nll": 1.5,
    "target_tokens": 2,
    "correct_tokens": 1,
    "metadata": "{}",
}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    table = scores_table(
        [ROW | {"finish_reason": "length"}, ROW | {"nll": None, "correct_tokens": None}], ["yes", "no"]
    )
    write_scores(table, tmp_path / "scores" / "test.parquet")
    read = read_scores(tmp_path / "scores" / "test.parquet")
    assert read.to_pylist() == table.to_pylist()
    assert read.schema.metadata == table.schema.metadata
    assert read["finish_reason"].to_pylist() == ["length", None]


def test_a_table_from_before_finish_reason_is_read(tmp_path: Path) -> None:
    old = scores_table([ROW], ["yes", "no"]).drop_columns(["finish_reason"])
    pq.write_table(old, tmp_path / "old.parquet")
    read = read_scores(tmp_path / "old.parquet")
    assert read["finish_reason"].to_pylist() == [None]
    assert compute(read) == compute(scores_table([ROW], ["yes", "no"]))


def test_token_metrics_are_none_if_a_row_has_no_nll() -> None:
    table = scores_table([ROW, ROW | {"example_id": "b", "nll": None, "correct_tokens": None}], ["yes", "no"])
    values = compute(table)
    assert (values["loss"], values["perplexity"], values["token_accuracy"]) == (None, None, None)
    assert values["accuracy"] == 0.0
    assert not {"loss", "perplexity", "token_accuracy"} & set(intervals(table, resamples=20))
    assert [row["p_target"] for row in worst(table)] == [None, pytest.approx(0.2231301601)]
    assert changed(table, table)["fixed_count"] == 0


def test_a_file_without_a_score_table_is_refused_by_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"example_id": ["a"]}), tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    for name, message in (("other", "columns missing: correct_tokens"), ("text", "not Parquet"), ("none", "not found")):
        with pytest.raises(UserError, match=message) as error:
            read_scores(tmp_path / f"{name}.parquet")
        assert error.value.faults[0].file == str(tmp_path / f"{name}.parquet")


def test_a_schema_that_is_nested_without_end_is_a_fault(tmp_path: Path) -> None:
    table = scores_table([ROW], ["yes", "no"]).replace_schema_metadata({"labels": "[" * 100_000})
    pq.write_table(table, tmp_path / "test.parquet")
    with pytest.raises(UserError, match="labels cannot be read"):
        read_scores(tmp_path / "test.parquet")
