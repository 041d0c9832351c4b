"""Rows of prompts without completions: read as the same rows with completions are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kamerton.data.example import DataExample
from kamerton.data.gate import DataError, prepare
from kamerton.data.options import Columns, DataOptions, SplitOptions
from kamerton.data.validation import read_examples
from kamerton.errors import UserError
from support.rows import question, write_jsonl

ASKED = {"role": "user", "content": "What is red?"}
SYSTEM = {"role": "system", "content": "Be brief."}
EARLIER = [ASKED, {"role": "assistant", "content": "A colour."}, {"role": "user", "content": "And blue?"}]


def read(tmp_path: Path, *rows: object, **options: Any) -> list[DataExample]:
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    return list(read_examples(DataOptions(path=str(path), rows="prompts", **options)))


@pytest.mark.parametrize(
    ("row", "answer", "options"),
    [
        ({"prompt": "What is red?"}, {"completion": "a"}, {}),
        ({"question": "What is red?", "level": 3}, {"answer": "a"}, {}),
        ({"prompt": "What is red?", "completion": None}, {"completion": "a"}, {}),
        ({"prompt": "What is red?", "completion": " "}, {"completion": "a"}, {}),
        ({"instruction": "Name it.", "input": "What is red?"}, {"output": "a"}, {}),
        ({"question": "What is red?", "context": "Blood is."}, {"answer": "a"}, {}),
        ({"prompt": "What is red?", "system": "Be brief."}, {"completion": "a"}, {}),
        ({"prompt": [SYSTEM, ASKED]}, {"completion": "a"}, {}),
        ({"q": "What is red?"}, {"completion": "a"}, {"prompt": "Q: {q}"}),
        ({"q": "What is red?"}, {"a": "a"}, {"columns": Columns(prompt="q", completion="a")}),
        ({"q": "What is red?", "a": None}, {"a": "a"}, {"prompt": "{q}", "completion": "{a}"}),
    ],
)
def test_the_prompt_is_that_of_the_row_with_a_completion(
    tmp_path: Path, row: dict[str, Any], answer: dict[str, str], options: dict[str, Any]
) -> None:
    alone, answered = read(tmp_path, row, {**row, **answer}, **options)
    assert (alone.completion, alone.is_answered) == ("", False)
    assert (answered.completion, answered.is_answered) == ("a", True)
    assert alone == replace(answered, completion="")
    assert alone.metadata == ({"level": 3} if "level" in row else {})


def test_turns_may_end_with_the_user(tmp_path: Path) -> None:
    rows = [{"messages": [SYSTEM, ASKED], "level": 1}, {"messages": EARLIER, "level": 2}]
    answered = [{**row, "messages": [*row["messages"], {"role": "assistant", "content": "a"}]} for row in rows]  # type: ignore[misc]
    first, second, *others = read(tmp_path, *rows, *answered)
    assert [turn.content for turn in first.messages] == ["Be brief.", "What is red?", ""]
    assert [turn.content for turn in second.messages] == ["What is red?", "A colour.", "And blue?", ""]
    assert [first, second] == [replace(other, completion="") for other in others]


def test_texts_alone_are_prompts(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("What is red?\nWhat is blue?\n")
    options = DataOptions(path=str(tmp_path / "prompts.txt"), records="lines", rows="prompts")
    assert [example.prompt for example in read_examples(options)] == ["What is red?", "What is blue?"]


@pytest.mark.parametrize(
    ("row", "options", "fix"),
    [
        ({"completion": "a"}, {}, "data.columns.prompt=NAME"),
        ({"prompt": "What is red?"}, {"columns": Columns(completion="answr")}, "data.columns.completion"),
        ({"prompt": "What is red?"}, {"prompt": "{prompt}", "completion": "{answr}"}, "data.completion"),
        ({"prompt": ""}, {}, "fill in prompt"),
        ({"messages": [ASKED], "reference_answer": "a"}, {}, "completion:reference_answer"),
    ],
)
def test_a_row_without_a_prompt_or_a_configured_column_is_a_fault(
    tmp_path: Path, row: dict[str, Any], options: dict[str, Any], fix: str
) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, row, **options)
    assert fix in str(error.value.faults[0].fix) + str(error.value.faults[0].message)


def test_completions_are_needed_unless_prompts_are_read(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{"prompt": question(number)} for number in range(30)])
    with pytest.raises(DataError):
        prepare(DataOptions(path=str(path)))


def test_rows_with_completions_are_the_same_examples_and_prompts_stay_in_one_split(tmp_path: Path) -> None:
    rows = [{"prompt": question(number), "completion": "yes" if number % 2 else "no"} for number in range(60)]
    options = DataOptions(path=str(write_jsonl(tmp_path / "rows.jsonl", rows)), near_duplicates=None)
    before, after = prepare(options), prepare(replace(options, rows="prompts"))
    assert (after.fingerprint, after.labels) == (before.fingerprint, ["no", "yes"])
    alone = [{"prompt": row["prompt"]} for row in rows]
    both = write_jsonl(tmp_path / "both.jsonl", [*rows, *alone, alone[0]])
    prepared = prepare(replace(options, path=str(both), rows="prompts"), SplitOptions(ratios=[0.5, 0.25, 0.25]))
    assert prepared.labels is None
    assert prepared.facts.counts["exact duplicates removed"] == 1
    assert prepared.facts.counts["without completion"] == 60
    prompts = [{example.prompt for example in examples} for examples in prepared.splits.values()]
    assert sum(map(len, prompts)) == len(set.union(*prompts)) == 60
