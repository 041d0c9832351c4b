"""Files of splits by name whose rows have no answers: left out with a warning, or refused if a setting names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from kamerton.data.gate import Prepared, prepare
from kamerton.data.options import DataOptions
from kamerton.data.validation import read_examples, validate
from support.rows import question, write_jsonl

LABELS = ("good", "bad")


def table(path: Path, names: list[str], rows: list[list[str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(row) + "\n" for row in [names, *rows]))
    return path


def benchmark(folder: Path, test: str = "test_features.tsv", parts: tuple[str, ...] = ("train", "dev")) -> Path:
    """A folder of KLEJ: labelled rows for training and development, and texts alone for the test."""
    for k, part in enumerate(parts):
        rows = [[question(100 * k + i), LABELS[i % 2]] for i in range(60)]
        table(folder / f"{part}.tsv", ["sentence", "target"], rows)
    table(folder / test, ["sentence"], [[question(900 + i)] for i in range(15)])
    return folder


def read(path: Path, **options: Any) -> Prepared:
    return prepare(DataOptions(path=str(path), near_duplicates=None, **options))


def sizes(prepared: Prepared) -> dict[str, int]:
    return {name: len(part) for name, part in prepared.splits.items()}


def warning(prepared: Prepared) -> str:
    (message,) = [w["message"] for w in prepared.report["warnings"] if w["code"] == "not-read"]
    return str(message)


@pytest.mark.parametrize("test", ["test_features.tsv", "test.tsv"])
def test_the_other_splits_are_used(tmp_path: Path, test: str) -> None:
    prepared = read(benchmark(tmp_path / "klej", test))
    assert sizes(prepared) == {"train": 60, "validation": 60}
    assert prepared.labels == ["bad", "good"]
    assert prepared.report["counts"]["rows read"] == 120
    assert "none of the 15 rows has an answer (there is no target)" in warning(prepared)
    assert "there is no test split" in warning(prepared)


def test_training_files_alone_are_split(tmp_path: Path) -> None:
    prepared = read(benchmark(tmp_path / "klej", parts=("train",)))
    assert sum(sizes(prepared).values()) == 60
    assert set(sizes(prepared)) == {"train", "validation", "test"}
    assert "split from the training files" in warning(prepared)


def test_files_of_an_archive(tmp_path: Path) -> None:
    folder = benchmark(tmp_path / "klej")
    with ZipFile(tmp_path / "klej.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    assert sizes(read(tmp_path / "klej.zip")) == {"train": 60, "validation": 60}


def test_two_texts_are_not_taken_for_prompt_and_completion(tmp_path: Path) -> None:
    rows = [[question(i), question(500 + i), LABELS[i % 2]] for i in range(60)]
    table(tmp_path / "cdsc" / "train.tsv", ["sentence_A", "sentence_B", "entailment_judgment"], rows)
    test = table(tmp_path / "cdsc" / "test.tsv", ["sentence_A", "sentence_B"], [row[:2] for row in rows[:15]])
    assert "there is no entailment_judgment" in warning(read(test.parent))
    (fault,) = validate(DataOptions(train=str(test.parent / "train.tsv"), test=str(test))).errors
    assert (fault.code, fault.column) == ("missing-field", "entailment_judgment")
    assert "leave data.test out" in fault.fix


@pytest.mark.parametrize(("secret", "reason"), [(-1, "label is -1"), (None, "label is blank"), ("", "label is blank")])
def test_secret_labels(tmp_path: Path, secret: object, reason: str) -> None:
    (tmp_path / "glue").mkdir()
    for name, labels in (("train", (0, 1)), ("validation", (0, 1)), ("test", (secret,))):
        rows = [{"sentence": f"{name} {question(i)}", "label": labels[i % len(labels)]} for i in range(60)]
        write_jsonl(tmp_path / "glue" / f"{name}.jsonl", rows)
    prepared = read(tmp_path / "glue", label_names=["no", "yes"])
    assert prepared.labels == ["no", "yes"]
    assert reason in warning(prepared)


@pytest.mark.parametrize(
    "row",
    [
        {"sentence": "Where is it?", "category": "good"},  # an answer under another name
        {"sentence": "Where is it?", "verdict": "good"},
        {"sentence": "Where is it?", "target": "good"},
    ],
)
def test_rows_that_may_have_answers_are_read(tmp_path: Path, row: dict[str, str]) -> None:
    folder = benchmark(tmp_path / "klej")
    (folder / "test_features.tsv").unlink()
    write_jsonl(folder / "test.jsonl", [{**row, "sentence": question(900 + i)} for i in range(30)])
    codes = {fault.code for fault in validate(DataOptions(path=str(folder))).warnings}
    assert "not-read" not in codes
    if "target" in row:
        assert sizes(read(folder)) == {"train": 60, "validation": 60, "test": 30}


def test_prompts_alone_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    folder = benchmark(tmp_path / "klej")
    assert sizes(read(folder, rows="prompts")) == {"train": 60, "validation": 60, "test": 15}


def test_examples_are_read_without_them(tmp_path: Path) -> None:
    examples = list(read_examples(DataOptions(path=str(benchmark(tmp_path / "klej")))))
    assert {example.completion for example in examples} == set(LABELS)
