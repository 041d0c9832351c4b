"""A column that names splits is reported, with the commands that keep them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kamerton.data.gate import prepare
from kamerton.data.options import DataOptions
from kamerton.data.validation import read_examples, validate
from support.rows import pairs, write_jsonl
from support.settings import data_options, settings_of


def warned(path: Path, key: str = "path") -> list[Any]:
    warnings = validate(DataOptions(**{key: str(path)})).warnings
    return [fault for fault in map(as_dict, warnings) if fault["code"] == "split-names"]


def as_dict(fault: Any) -> dict[str, Any]:
    return fault if isinstance(fault, dict) else fault.as_dict()


def named(*names: str) -> list[dict[str, Any]]:
    return [{**row, "split": names[i % len(names)]} for i, row in enumerate(pairs(120))]


def test_the_commands_of_the_warning_keep_the_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", named("train", "train", "val", "dev", "Test"))
    (fault,) = warned(path)
    assert "train: 48 rows, val: 24 rows, dev: 24 rows, Test: 24 rows" in fault["message"]
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    monkeypatch.chdir(tmp_path)
    subprocess.run(fault["fix"].removeprefix("to keep them: ").partition("; then,")[0], shell=True, check=True)
    (settings,) = settings_of(fault["fix"].partition("; then,")[2])
    prepared = prepare(DataOptions(**data_options(settings), near_duplicates=None))
    sizes = {name: len(examples) for name, examples in prepared.splits.items()}
    assert sizes == {"train": 48, "validation": 48, "test": 24}


@pytest.mark.parametrize("names", [("train",), ("a", "b"), ("train", "in domain")])
def test_other_columns_are_metadata_without_a_word(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", named(*names))
    assert not warned(path)
    assert next(iter(read_examples(DataOptions(path=str(path))))).metadata == {"split": names[0]}


def test_files_whose_split_is_given_are_not_split_anew(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", named("train", "Training"))
    assert not warned(path, "train")
    assert set(prepare(DataOptions(train=str(path), near_duplicates=None)).report["unused"]) == {"split"}


def test_rows_that_name_another_split_than_their_file_are_a_warning(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", named("train", "train", "test"))
    (fault,) = warned(path, "train")
    assert "names other splits (test: 40 rows), and the rows are those of train" in fault["message"]
