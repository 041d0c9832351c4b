"""LLaMA-Factory's `dataset_info.json`: a fault with the settings of the file that it describes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kamerton.data.options import DataOptions
from kamerton.data.validation import read_examples, validate
from support.rows import question
from support.settings import data_options, settings_of

COLUMNS = {"prompt": "q1", "query": "q2", "response": "a1", "system": "s1"}


def write(folder: Path, row: Any, columns: dict[str, str]) -> Path:
    (folder / "rows.json").write_text(json.dumps([row(i) for i in range(8)]))
    (folder / "dataset_info.json").write_text(json.dumps({"mine": {"file_name": "rows.json", "columns": columns}}))
    return folder


def described(i: int) -> dict[str, str]:
    return {"q1": question(i), "q2": "Why?", "a1": f"{i} mills", "s1": "Be kind."}


@pytest.mark.parametrize("name", ["rows.json", "dataset_info.json"])
def test_the_settings_are_those_of_the_described_columns(tmp_path: Path, name: str) -> None:
    write(tmp_path, described, COLUMNS)
    path = str(tmp_path / name)
    (fault,) = validate(DataOptions(path=path)).errors
    (settings,) = settings_of(fault.fix)
    options = {"path": path, **data_options(settings)}
    example = next(iter(read_examples(DataOptions(**options))))
    assert [turn.content for turn in example.messages] == ["Be kind.", f"{question(0)}\n\nWhy?", "0 mills"]


def test_rows_with_usual_names_need_no_description(tmp_path: Path) -> None:
    write(tmp_path, lambda i: {"question": question(i), "answer": f"{i} mills"}, {"prompt": "answer"})
    example = next(iter(read_examples(DataOptions(path=str(tmp_path / "rows.json")))))
    assert (example.prompt, example.completion) == (question(0), "0 mills")
