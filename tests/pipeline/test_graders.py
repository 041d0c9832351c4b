"""Rows that a grader cannot grade are found before training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kamerton.config.compose import compose_values
from kamerton.pipeline.check import data_faults
from kamerton.score.reward_checks import NAMED
from support.rows import question, write_jsonl

CHECK: Any = {"type": "string_check", "name": "check", "operation": "eq", "input": "{{sample.output_text}}"}


def faults(folder: Path, rows: list[dict[str, Any]], reference: str, *more: str) -> list[tuple[str, int | None, str]]:
    """Code, row and message of the faults of training on rows."""
    (folder / "grader.json").write_text(json.dumps({**CHECK, "reference": reference}))
    data = write_jsonl(folder / "rows.jsonl", rows)
    options = ["model=tiny", "objective=grpo", "data=jsonl", f"data.path={data}", "reward=grader"]
    found = data_faults(compose_values([*options, f"reward.grader.file={folder / 'grader.json'}", *more]))
    return [(fault.code, fault.row, fault.message) for fault in found]


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return [{"prompt": question(i), "completion": str(i), "answer": {"digits": [i]}, "level": i % 3} for i in range(60)]


def test_rows_with_all_fields_have_no_faults(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    reference = "{{item.answer.digits[0]}} {{item.level}} {{item.completion}} {{item.prompt}} {{sample.output_json.a}}"
    assert not faults(tmp_path, rows, reference)


def test_each_row_without_a_field_is_a_fault_with_its_line(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    del rows[4]["level"]
    rows[7]["answer"] = {"digits": []}
    found = faults(tmp_path, rows, "{{item.answer.digits[0]}} {{item.level}}")
    assert found == [
        ("reward.field", 5, "the row has no level, which the grader reads"),
        ("reward.field", 8, "the row has no answer.digits.0, which the grader reads"),
    ]


def test_many_rows_are_counted(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    found = faults(tmp_path, rows, "{{item.other}}")
    assert len(found) == NAMED + 1
    assert found[-1] == ("reward.field", None, f"{60 - NAMED} more rows cannot be graded")


def test_rows_with_completions_are_refused_only_for_prompts_alone(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    rows = [{**row, "completion": str(i) if i in (2, 4) else ""} for i, row in enumerate(rows, 1)]
    found = faults(tmp_path, rows, "{{item.level}}", "reward.grader.prompts_alone=true")
    assert [(code, row) for code, row, _ in found] == [("reward.answered", 2), ("reward.answered", 4)]


def test_rows_without_functions_are_refused_by_a_grader_of_calls(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    function = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    rows = [
        {"messages": [{"role": "user", "content": row["prompt"]}], "level": "add", "tools": [function]} for row in rows
    ]
    del rows[3]["tools"]
    found = faults(tmp_path, rows, "{{sample.output_tools[0].function.name}} {{item.level}}")
    assert [(code, row) for code, row, _ in found] == [("reward.field", 4)]
    assert "no functions (tools)" in found[0][2]


def test_a_broken_grader_is_a_fault(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    ((code, _, message),) = faults(tmp_path, rows, "{{level}}")
    assert (code, message) == ("reward.grader", "{{level}} is unknown")
