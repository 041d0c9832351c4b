"""Folders of texts that are named by their label."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from kamerton.data.gate import prepare
from kamerton.data.options import Columns, DataOptions
from kamerton.errors import UserError

LABELLED = Columns(label="folder")


def write(folder: Path, *places: str, texts: int = 6) -> None:
    for number, place in enumerate(places):
        (folder / place).mkdir(parents=True)
        for index in range(texts):
            (folder / place / f"{index}.txt").write_text(
                f"A film about {number} owls\n\nand {index} mice in {place}.\n"
            )


def read(path: Path, columns: Columns) -> dict[str, list[tuple[str, str]]]:
    prepared = prepare(DataOptions(path=str(path), columns=columns, near_duplicates=None))
    return {
        name: [(each.prompt_text, each.completion) for each in examples] for name, examples in prepared.splits.items()
    }


def test_the_label_of_a_text_is_its_folder(tmp_path: Path) -> None:
    write(tmp_path, "pos", "neg", texts=12)
    (tmp_path / "README.txt").write_text("Films.")
    with pytest.raises(UserError) as raised:
        read(tmp_path, Columns())
    (fault,) = raised.value.faults
    assert fault.message == "the texts are in several folders: neg, pos"
    assert fault.fix.startswith("add data.columns.label=folder if ")
    rows = sorted(row for examples in read(tmp_path, LABELLED).values() for row in examples)
    assert len(rows) == 24
    assert rows[0] == ("A film about 0 owls\n\nand 0 mice in pos.", "pos")
    assert {label for _, label in rows} == {"pos", "neg"}


def test_texts_that_are_named_by_numbers_have_no_ending(tmp_path: Path) -> None:
    for label in ("pos", "neg"):
        (tmp_path / label).mkdir()
        for index in range(12):
            (tmp_path / label / f"{index}").write_text(f"A film about {index} mice in {label}.\n")
    with pytest.raises(UserError, match=r"data\.columns\.label=folder"):
        read(tmp_path, Columns())
    assert sum(map(len, read(tmp_path, LABELLED).values())) == 24


def test_splits_above_the_labels_are_kept(tmp_path: Path) -> None:
    write(tmp_path, "train/pos", "train/neg", "test/pos", "test/neg")
    (tmp_path / "train" / "urls.txt").write_text("http://localhost/1")
    splits = read(tmp_path, LABELLED)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 12, "test": 12}
    assert all(text.endswith(f"test/{label}.") for text, label in splits["test"])


def test_an_archive_of_labelled_texts_is_read_alike(tmp_path: Path) -> None:
    write(tmp_path / "films", "train/pos", "train/neg", "test/pos", "test/neg")
    with tarfile.open(tmp_path / "films.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "films", "films")
    assert read(tmp_path / "films.tar.gz", LABELLED) == read(tmp_path / "films", LABELLED)


def test_a_folder_without_labels_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no label")
    with pytest.raises(UserError, match="no subfolder contains texts"):
        read(tmp_path, LABELLED)
