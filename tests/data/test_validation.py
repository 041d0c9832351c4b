"""Asking the gate from Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kamerton.data.gate import prepare
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.data.splits.assign import split
from kamerton.data.validation import read_examples, validate
from kamerton.errors import UserError
from support.rows import pairs, write_jsonl


def test_a_valid_file_keeps_its_warnings(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [*pairs(90), pairs(1)[0]])
    result = validate(DataOptions(path=str(path)))
    assert result.is_valid
    assert {fault.code for fault in result.warnings} == {"exact-duplicate", "few-rows"}
    assert result.report["counts"]["distinct"] == 90


def test_faults_of_rows_and_of_settings_are_values(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [*pairs(90), {"prompt": 1}])
    result = validate(DataOptions(path=str(path)))
    assert not result.is_valid
    assert [(fault.code, fault.row) for fault in result.errors] == [("missing-field", 91)]
    assert [fault.column for fault in validate(DataOptions(path="a"), SplitOptions(seed=-1)).errors] == ["split.seed"]
    assert [fault.code for fault in validate(DataOptions(path=str(tmp_path / "no.jsonl"))).errors] == ["missing-file"]


def test_examples_stream_and_faults_come_at_the_end(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [*pairs(3), {"prompt": 1}])
    examples = read_examples(DataOptions(path=str(path)))
    assert [next(examples).prompt for _ in range(3)] == [row["prompt"] for row in pairs(3)]
    with pytest.raises(UserError):
        next(examples)
    assert len(list(read_examples(DataOptions(path=str(path), policy={"missing-field": "drop"})))) == 3


@pytest.mark.parametrize("group", ["prompt", None, "book"])
def test_examples_split_one_by_one_are_where_prepare_puts_them(tmp_path: Path, group: str | None) -> None:
    rows = [row | {"book": i % 30} for i, row in enumerate(pairs(200))]
    options, how = DataOptions(path=str(write_jsonl(tmp_path / "rows.jsonl", rows))), SplitOptions(group=group)
    result = {(name, example.id) for name, example in split(read_examples(options), how)}
    prepared = prepare(options, how)
    assert result == {(name, id_) for name, part in prepared.splits.items() for id_ in part.ids.to_pylist()}


def test_public_names_are_light_until_they_are_used() -> None:
    code = """
import sys
import kamerton, kamerton.data
heavy = ("numpy", "pyarrow", "torch", "transformers", "pandas")
assert not [name for name in heavy if name in sys.modules]
for room in (kamerton, kamerton.data):
    assert set(room.__all__) <= set(dir(room))
    assert all(getattr(room, name).__doc__ for name in room.__all__)
from kamerton import DataExample, prepare, split, validate
assert validate is kamerton.data.validate and callable(prepare) and callable(split)
assert "torch" not in sys.modules and "transformers" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
