"""Texts by their form: lines of fastText, tagged words and Rasa's examples are rows; labels are no documents."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kamerton.data.options import DataOptions
from kamerton.data.read.records import read_rows
from kamerton.data.read.sources import find_files
from kamerton.data.validation import read_examples, validate

OTHERS = {
    "labels.txt": ("0\n1\n" * 20, "the lines are labels (0, 1)"),
    "film.srt": ("1\n00:00:01,000 --> 00:00:02,500\nHello.\n\n" * 6, "these are subtitles"),
    "film.vtt": ("WEBVTT\n\n" + "00:01.000 --> 00:02.500\nHello.\n\n" * 6, "these are subtitles"),
    "phrases.txt": ("Profit rose .@positive\nSales fell .@negative\n" * 6, "a label behind @ (negative, positive)"),
    "nlu.yml": ("nlu:\n- synonym: hello\n  examples: |\n    - hi\n", "YAML"),
}


def test_lines_of_fasttext_are_labelled_texts(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("__label__mill How many mills?\n\n__label__oven How many ovens?\n")
    examples = [(example.prompt, example.completion) for example in read_examples(DataOptions(path=str(path)))]
    assert examples == [("How many mills?", "mill"), ("How many ovens?", "oven")]


@pytest.mark.parametrize("name", OTHERS)
def test_other_lines_are_one_fault(tmp_path: Path, name: str) -> None:
    content, message = OTHERS[name]
    (tmp_path / name).write_text(content)
    (fault,) = validate(DataOptions(path=str(tmp_path / name))).errors
    assert fault.code == "unreadable-file"
    assert message in fault.message


@pytest.mark.parametrize("name", ["poem.txt", "list.txt"])
def test_short_lines_of_a_document_are_a_document(tmp_path: Path, name: str) -> None:
    lines = [f"town{i}" for i in range(20)] if name == "list.txt" else ["Rain.", "Rain again, O"] * 10
    (tmp_path / name).write_text("\n".join(lines))
    (example,) = read_examples(DataOptions(path=str(tmp_path / name)))
    assert example.completion == "\n".join(lines)


def test_words_with_tags_are_sentences(tmp_path: Path) -> None:
    path = tmp_path / "tags.txt"
    path.write_text("-DOCSTART- -X- O\n\n" + "".join(f"In IN O\nTown{i} NNP B-LOC\n\n" for i in range(6)))
    options = DataOptions(path=str(path), prompt="{tokens:words}", completion="{tags:list}")
    examples = list(read_examples(options))
    assert [example.prompt for example in examples] == [f"In Town{i}" for i in range(6)]
    assert {example.completion for example in examples} == {"O, B-LOC"}
    assert examples[0].metadata["column2"] == ["IN", "NNP"]


RASA = """version: "3.1"
nlu:
- intent: greet
  examples: |
    - hello
    - I am [Ann](name) of [Oslo]{"entity": "city", "role": "home"}
- lookup: city
  examples: |
    - Oslo
- intent: faq/mills
  examples:
  - text: How many mills?
"""


def test_examples_of_rasa_are_texts_with_their_intents_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "nlu.yml"
    path.write_text(RASA)
    (file,), _ = find_files(DataOptions(path=str(path)))
    *rows, (_, warning) = read_rows(file)
    assert [(line, row["text"], row["intent"]) for line, row in rows] == [
        (5, "hello", "greet"),
        (6, "I am Ann of Oslo", "greet"),
        (12, "How many mills?", "faq/mills"),
    ]
    assert rows[1][1]["entities"] == [{"text": "Ann", "label": "name"}, {"text": "Oslo", "label": "city"}]
    assert (warning.code, warning.severity) == ("not-read", "warning")
    assert "nlu lookup" in warning.message
    examples = [(example.prompt, example.completion) for example in read_examples(DataOptions(path=str(path)))]
    assert examples[0] == ("hello", "greet")


def test_questions_with_answers_are_rows(tmp_path: Path) -> None:
    path = tmp_path / "faq.txt"
    path.write_text("".join(f"Q: How many are {i}?\nOr less?\n\nA: {i} mills.\n\n" for i in range(6)))
    examples = [(example.prompt, example.completion) for example in read_examples(DataOptions(path=str(path)))]
    assert examples[0] == ("How many are 0?\nOr less?", "0 mills.")
    assert len(examples) == 6


@pytest.mark.parametrize(
    "text",
    [
        "An interview.\n" + "Q: Why?\nA: So.\n" * 6,  # a text around them
        "Q: Why?\nQ: How?\nA: So.\n" * 6,  # two questions, one answer
        "Q: Why?\nA: So.\n" * 3,  # too few to be sure
        "Write to me@home or you@work\n" * 12,  # the same "label" everywhere
        "\n".join(f"Write to ann@host{i}" for i in range(12)),
        "\n".join(f"At 00:0{i % 10} it rained." for i in range(12)),
    ],
)
def test_other_texts_stay_documents(tmp_path: Path, text: str) -> None:
    (tmp_path / "text.txt").write_text(text)
    (example,) = read_examples(DataOptions(path=str(tmp_path / "text.txt")))
    assert example.completion == text.strip("\n")


@pytest.mark.parametrize("name", ["film.srt", "phrases.txt"])
def test_the_command_of_the_fault_makes_a_file_that_is_read(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(OTHERS[name][0])
    (fault,) = validate(DataOptions(path=name)).errors
    command, _, settings = fault.fix.partition(", then ")
    subprocess.run(command.removeprefix("to train on what is said alone, "), shell=True, check=True)
    path = settings.split()[0].removeprefix("data.path=")
    header = ["text", "label"] if "header" in settings else None
    example = next(iter(read_examples(DataOptions(path=path, header=header))))
    assert example.completion in ("positive", "\n".join(["Hello."] * 6))
