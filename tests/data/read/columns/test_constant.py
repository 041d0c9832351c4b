"""Columns with one value in all rows are neither the label nor the prompt if another column can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kamerton.data.gate import prepare
from kamerton.data.options import DataOptions
from kamerton.data.read.columns.constant import constant_columns
from kamerton.data.validation import read_examples, validate
from support.rows import question, write_jsonl
from support.settings import data_options, settings_of

CONSTANT = {"source": "web", "language": "en", "license": "cc-by-4.0"}


def body(i: int) -> str:
    return f"The mill of parish {i} grinds rye and barley."


ROWS: dict[str, Any] = {
    "label": (lambda i: {"text": body(i), "label": "all", "sentiment": "ab"[i % 2]}, body(0), "a"),
    "target": (lambda i: {"text": body(i), "target": "all", "headline": f"Mill {i}"}, body(0), "Mill 0"),
    "solution": (lambda i: {"question": question(i), "solution": body(i), "category": "x"}, question(0), body(0)),
    "body": (lambda i: {"title": question(i), "body": body(i), "category": "recipes"}, question(0), body(0)),
    "rating": (lambda i: {"document": "doc", "review": body(i), "class": "x", "rating": "ab"[i % 2]}, body(0), "a"),
    "prompt": (
        lambda i: {"prompt": "Describe it.", "subject": question(i), "completion": body(i)},
        *(f"Describe it.\n\n{question(0)}", body(0)),
    ),
    "recipe": (
        lambda i: {"title": question(i), "directions": f'["Mix {i} eggs well.", "Bake."]', "site": "example.org"},
        *(question(0), "Mix 0 eggs well.\nBake."),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_settings_of_the_fault_read_another_column(tmp_path: Path, name: str) -> None:
    row, prompt, completion = ROWS[name]
    path = str(write_jsonl(tmp_path / "rows.jsonl", [row(i) | CONSTANT for i in range(120)]))
    (fault,) = validate(DataOptions(path=path)).errors
    options = DataOptions(path=path, near_duplicates=None, **data_options(settings_of(fault.fix)[0]))
    example = next(iter(read_examples(options)))
    assert (example.prompt, example.completion) == (prompt, completion)
    assert set(CONSTANT) <= set(prepare(options).report["unused"])


KEPT: dict[str, Any] = {
    "no other column": lambda i: {"text": body(i), "label": "all", "id": i, "url": f"example.org/{i}"},
    "labels in order": lambda i: {"text": body(i), "label": "ab"[i >= 100], "sentiment": "cd"[i % 2]},
    "an instruction": lambda i: {"instruction": "Name it.", "input": body(i), "output": f"Mill {i}"},
    "few rows": lambda i: {"text": body(i), "label": "all", "sentiment": "ab"[i % 2]} if i < 5 else None,
}


@pytest.mark.parametrize("name", KEPT)
def test_the_usual_columns_are_read_otherwise(tmp_path: Path, name: str) -> None:
    rows = [row for i in range(120) if (row := KEPT[name](i))]
    path = str(write_jsonl(tmp_path / "rows.jsonl", rows))
    usual = "output" if "output" in rows[0] else "label"
    assert [e.completion for e in read_examples(DataOptions(path=path))] == [row[usual] for row in rows]


def test_a_file_for_each_label_is_read(tmp_path: Path) -> None:
    for label in ("good", "bad"):
        rows = [{"text": f"{label} {body(i)}", "label": label, "headline": f"Mill {i}"} for i in range(60)]
        write_jsonl(tmp_path / f"{label}.jsonl", rows)
    assert {example.completion for example in read_examples(DataOptions(path=str(tmp_path)))} == {"good", "bad"}


def test_named_columns_are_read_whatever_their_values(tmp_path: Path) -> None:
    path = str(write_jsonl(tmp_path / "rows.jsonl", [ROWS["label"][0](i) for i in range(120)]))
    (fault,) = validate(DataOptions(path=path)).errors
    options = DataOptions(path=path, near_duplicates=None, **data_options(settings_of(fault.fix)[1]))
    (warning,) = [w for w in prepare(options).report["warnings"] if w["code"] == "one-completion"]
    assert "all 120 rows have the completion 'all'" in warning["message"]


def test_all_rows_are_read_only_for_columns_that_are_constant_at_first() -> None:
    head = [{"a": 1, "b": i, "c": ["x"]} for i in range(6)]
    rows = [*head, {"a": 2, "b": 0, "c": ["x"]}]
    assert constant_columns(["a", "b", "c"], head, lambda: head) == {"a"}
    assert constant_columns(["a", "b", "c"], head, lambda: rows) == set()
    assert constant_columns(["b", "c"], head, lambda: pytest.fail("read")) == set()
