"""Files, lists, globs and directories are found in a stable order; what cannot be read is a fault with a way out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kamerton.data.options import DataOptions, Source
from kamerton.data.read.records import read_rows
from kamerton.data.read.sources import find_files
from kamerton.errors import Fault


def result(**options: object) -> tuple[list[str], list[str]]:
    files, faults = find_files(DataOptions(**options))  # type: ignore[arg-type]
    return [file.path.name for file in files], [fault.code for fault in faults]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jsonl", "a.jsonl", "c.csv", "d.jsonl.gz"):
        (tmp_path / name).write_text("x")
    return tmp_path


def test_a_directory_a_glob_a_list_and_a_file(folder: Path) -> None:
    assert result(path=str(folder)) == (["a.jsonl", "b.jsonl", "c.csv", "d.jsonl.gz"], [])
    assert result(format="jsonl", path=str(folder)) == (["a.jsonl", "b.jsonl", "d.jsonl.gz"], ["not-read"])
    assert result(path=str(folder / "?.jsonl")) == (["a.jsonl", "b.jsonl"], [])
    assert result(path=[str(folder / "b.jsonl"), str(folder / "a.jsonl")]) == (["b.jsonl", "a.jsonl"], [])
    assert result(format="csv", path=str(folder)) == (["c.csv"], ["not-read"])


def test_two_stars_read_each_directory_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "in" / "deep").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for name in ("in/e.jsonl", "in/deep/f.jsonl", ".hidden/g.jsonl"):
        (folder / name).write_text("x")
    for name in ("in/loop", "in/deep/up", "other"):
        (folder / name).symlink_to(folder, target_is_directory=True)
    listed: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    assert result(path=str(folder / "**" / "*.jsonl")) == (["a.jsonl", "b.jsonl", "f.jsonl", "e.jsonl"], [])
    assert len(listed) <= 6  # three directories, once for themselves and once for their files
    assert result(path=str(folder / "*" / "**" / "f.jsonl")) == (["f.jsonl"], [])
    names = ["f.jsonl", "e.jsonl", "a.jsonl", "b.jsonl", "c.csv", "d.jsonl.gz"]  # the last four by in/loop
    assert result(path=f"{folder}/i*/**") == (names, [])
    monkeypatch.chdir(folder)
    assert result(path="**/*.csv") == (["c.csv"], [])


def test_given_splits_are_kept(folder: Path) -> None:
    files, _ = find_files(DataOptions(train=str(folder / "a.jsonl"), test=str(folder / "b.jsonl")))
    assert [file.split for file in files] == ["train", "test"]


def test_a_misspelt_file_suggests_the_nearest(folder: Path) -> None:
    _, (fault,) = find_files(DataOptions(path=str(folder / "aa.jsonl")))
    assert fault.code == "missing-file"
    assert fault.column == "data.path"
    assert str(folder / "a.jsonl") in fault.fix


def test_all_unusable_paths_are_reported_together(folder: Path) -> None:
    (folder / "empty.jsonl").touch()
    (folder / "sub").mkdir()
    paths = ["no/such/x.jsonl", "gone*.jsonl", "sub", "empty.jsonl", "c.csv", "a.jsonl", "./a.jsonl"]
    _, codes = result(path=[str(folder / path) for path in paths], format="jsonl")
    assert codes == ["missing-file", "missing-file", "missing-file", "empty-file", "wrong-extension", "bad-value"]


def test_the_fix_for_a_wrong_extension_finds_the_format(folder: Path) -> None:
    _, (fault,) = find_files(DataOptions(path=str(folder / "c.csv"), format="jsonl"))
    assert "data=auto" in fault.fix


def test_a_directory_skips_hidden_files_and_reports_other_skipped_files(folder: Path) -> None:
    (folder / ".a.jsonl").write_text("{}")
    (folder / "sub").mkdir()
    (folder / "README.md").write_text("words")
    (folder / "e.txt").write_text("rows of another format")
    _, (fault,) = find_files(DataOptions(path=str(folder), format="jsonl"))
    assert (fault.code, fault.severity) == ("not-read", "warning")
    assert "not read in this directory: c.csv, e.txt, sub/" in fault.message
    files, (fault,) = find_files(DataOptions(path=str(folder)))
    assert [file.path.name for file in files] == ["a.jsonl", "b.jsonl", "c.csv", "d.jsonl.gz", "e.txt"]
    assert "not read in this directory: sub/" in fault.message


@pytest.mark.parametrize("path", ["a" * 5000 + ".jsonl", "~nobody-of-that-name/x.jsonl", "a\0b.jsonl"])
def test_paths_that_cannot_be(path: str) -> None:
    _, (fault,) = find_files(DataOptions(path=path))
    assert fault.code == "missing-file"


def test_settings_that_no_file_follows_are_a_warning(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,completion\n" + "".join(f"q{i},a{i}\n" for i in range(9)))
    (tmp_path / "a.jsonl").write_text('{"prompt": "q", "completion": "a"}\n')
    table, lines = str(tmp_path / "a.csv"), str(tmp_path / "a.jsonl")
    _, (fault,) = find_files(DataOptions(path=table, records="lines"))
    assert (fault.code, fault.column, fault.severity) == ("unused-setting", "data.records", "warning")
    assert result(path=lines, delimiter="semicolon")[1] == ["unused-setting"]
    assert result(path=[table, lines], delimiter="comma", records="data") == (["a.csv", "a.jsonl"], [])
    _, (fault,) = find_files(DataOptions(sources={"a": Source(table), "b": Source(lines, delimiter="tab")}))
    assert fault.column == "data.sources.b.delimiter"
    (file,), _ = find_files(DataOptions(path=lines, header=["a", "b"]))
    fault, row = (row for _, row in read_rows(file))
    assert isinstance(fault, Fault)
    assert (fault.code, fault.column) == ("unused-setting", "data.header")
    assert row == {"prompt": "q", "completion": "a"}


def test_links_that_lead_nowhere_or_to_themselves(folder: Path) -> None:
    (folder / "nowhere.jsonl").symlink_to(folder / "gone.jsonl")
    (folder / "self.jsonl").symlink_to(folder / "self.jsonl")
    assert result(path=[str(folder / "nowhere.jsonl"), str(folder / "self.jsonl")])[1] == ["missing-file"] * 2
    _, (fault,) = find_files(DataOptions(path=str(folder / "nowhere.jsonl")))
    assert str(folder / "gone.jsonl") in fault.message
    assert "did you mean" not in fault.fix
    (folder / "link.jsonl").symlink_to(folder / "a.jsonl")
    assert result(path=[str(folder / "a.jsonl"), str(folder / "link.jsonl")])[1] == ["bad-value"]
