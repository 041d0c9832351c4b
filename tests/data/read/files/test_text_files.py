"""Texts by their form: fastText's lines are rows; tags, labels and YAML are no documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from kamerton.data.options import DataOptions
from kamerton.data.validation import read_examples, validate

OTHERS = {
    "tags.txt": ("".join(f"Ann B-PER\nlives O\nin O\nTown{i} B-LOC\n\n" for i in range(4)), "CoNLL"),
    "labels.txt": ("0\n1\n" * 20, "the lines are labels (0, 1)"),
    "nlu.yml": ("nlu:\n- intent: greet\n  examples: |\n    - hello\n", "YAML"),
}


def test_lines_of_fasttext_are_labelled_texts(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("__label__mill How many mills?\n\n__label__oven How many ovens?\n")
    examples = [(example.prompt, example.completion) for example in read_examples(DataOptions(path=str(path)))]
    assert examples == [("How many mills?", "mill"), ("How many ovens?", "oven")]


@pytest.mark.parametrize("name", OTHERS)
def test_other_lines_are_one_fault(tmp_path: Path, name: str) -> None:
    content, said = OTHERS[name]
    (tmp_path / name).write_text(content)
    (fault,) = validate(DataOptions(path=str(tmp_path / name))).errors
    assert fault.code == "unreadable-file"
    assert said in fault.message


@pytest.mark.parametrize("name", ["poem.txt", "list.txt"])
def test_short_lines_of_a_document_are_a_document(tmp_path: Path, name: str) -> None:
    lines = [f"town{i}" for i in range(20)] if name == "list.txt" else ["Rain.", "Rain again, O"] * 10
    (tmp_path / name).write_text("\n".join(lines))
    (example,) = read_examples(DataOptions(path=str(tmp_path / name)))
    assert example.completion == "\n".join(lines)
