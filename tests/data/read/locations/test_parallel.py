"""Folders and archives of one text in several languages are a fault whose settings read two of them."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kamerton.data.options import DataOptions
from kamerton.data.validation import read_examples, validate
from support.rows import question
from support.settings import data_options, settings_of

PLACES = {
    "opus": ("Books.en-pl.en", "Books.en-pl.pl"),
    "opus with the training texts first": ("train.en", "train.pl", "dev.en", "dev.pl"),
    "flores": ("dev/eng_Latn.dev", "dev/pol_Latn.dev"),
}


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("".join(f"{name[-2:]} {question(i)}\n" for i in range(8)))
    (folder / "README").write_text("Books.")


@pytest.mark.parametrize("name", PLACES)
def test_the_first_settings_read_both_texts(tmp_path: Path, name: str) -> None:
    write(tmp_path, *PLACES[name])
    (fault,) = validate(DataOptions(path=str(tmp_path))).errors
    settings = settings_of(fault.fix)
    assert len(settings) == 2
    first = next(iter(read_examples(DataOptions(**data_options(settings[0])))))
    source, target = PLACES[name][:2]
    assert (first.prompt, first.completion) == (f"{source[-2:]} {question(0)}", f"{target[-2:]} {question(0)}")


def test_an_archive_is_unpacked_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, *PLACES["opus"])
    with zipfile.ZipFile(tmp_path / "en-pl.txt.zip", "w") as archive:
        for name in (*PLACES["opus"], "README"):
            archive.write(tmp_path / name, name)
    monkeypatch.chdir(tmp_path)
    (fault,) = validate(DataOptions(path="en-pl.txt.zip")).errors
    command = re.search(r"unpack it: python (.*?);", fault.fix)
    assert command is not None, fault.fix
    subprocess.run([sys.executable, *command[1].split()], check=True)
    assert len(list(read_examples(DataOptions(**data_options(settings_of(fault.fix)[0]))))) == 8


def test_other_folders_are_read_as_they_were(tmp_path: Path) -> None:
    write(tmp_path, "notes.log", "more.log")
    assert not validate(DataOptions(path=str(tmp_path))).report.get("languages")
    assert len(list(read_examples(DataOptions(path=str(tmp_path))))) == 2


@pytest.mark.parametrize("place", ["", "train"])
def test_texts_and_answers_of_geval_are_one_fault_whose_settings_read_them(tmp_path: Path, place: str) -> None:
    for part in ("dev-0", "test-A", "train"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "in.tsv").write_text("".join(f"{part} {question(i)}\n" for i in range(8)))
    for part in ("dev-0", "train"):
        (tmp_path / part / "expected.tsv").write_text("".join(f"{i % 2}\n" for i in range(8)))
    (fault,) = validate(DataOptions(path=str(tmp_path / place))).errors
    examples = list(read_examples(DataOptions(**data_options(settings_of(fault.fix)[0]))))
    assert [(e.prompt, e.completion) for e in examples] == [(f"train {question(i)}", f"{i % 2}") for i in range(8)]
