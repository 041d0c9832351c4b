"""What `kamerton evaluate` says about a test set before its numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from kamerton.data.gate import prepare
from kamerton.data.options import DataOptions
from kamerton.errors import Fault
from kamerton.score.test_notes import few_for_labels, left_out, of_test_file
from support.rows import write_jsonl


def _note(folder: Path, completions: list[str], labels: str | list[str] | None = "auto") -> str | None:
    rows = [{"prompt": f"what says animal {i}?", "completion": text} for i, text in enumerate(completions)]
    options = DataOptions(train=str(write_jsonl(folder / "rows.jsonl", rows)), labels=labels, near_duplicates=None)
    return few_for_labels(prepare(options).splits["train"], options)


def test_labels_that_too_few_rows_hide_are_named_with_the_setting(tmp_path: Path) -> None:
    note = _note(tmp_path, ["woof", "meow", "meow"])
    assert note is not None
    assert "3 rows are too few" in note
    assert "add 'data.labels=[meow,woof]'" in note


@pytest.mark.parametrize(
    ("completions", "labels"),
    [
        (["meow", "woof", "quack"], "auto"),  # each different: free text
        (["meow", "woof", "meow"], ["meow", "woof"]),
        (["meow", "woof", "meow"], None),
        (["a long answer of many words that is no label at all", "woof", "woof"], "auto"),
    ],
)
def test_free_text_and_given_labels_have_no_such_note(
    completions: list[str], labels: str | list[str] | None, tmp_path: Path
) -> None:
    assert _note(tmp_path, completions, labels) is None


def test_duplicates_of_a_test_file_are_counted(tmp_path: Path) -> None:
    rows = [{"prompt": f"what is {i}?", "completion": "it"} for i in (1, 2, 2, 2)]
    prepared = prepare(DataOptions(train=str(write_jsonl(tmp_path / "rows.jsonl", rows)), near_duplicates=None))
    assert left_out(prepared.facts) == "4 rows read; left out 2 rows: exact-duplicate 2"
    whole = prepare(DataOptions(train=str(write_jsonl(tmp_path / "whole.jsonl", rows[:2])), near_duplicates=None))
    assert left_out(whole.facts) is None


def test_faults_of_a_test_file_name_what_was_typed() -> None:
    (fault,) = of_test_file([Fault("missing-file", "no such file", "correct data.train", "no.csv", None, "data.train")])
    assert (fault.where, fault.fix) == ("no.csv:data.test", "correct data.test")
