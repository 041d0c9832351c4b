"""Stored rows are those of the content that they are kept under, also while somebody writes to the files."""

from __future__ import annotations

from pathlib import Path

import pytest

from kamerton.data.gate import Prepared, prepare
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.data.read import ingest
from kamerton.data.read.records import read_rows
from kamerton.errors import UserError
from support.rows import pairs, write_jsonl

ALL_TRAIN = SplitOptions(ratios=[1.0, 0.0, 0.0])


def written(path: Path, word: str) -> None:
    write_jsonl(path, [row | {"prompt": f"{word} {row['prompt']}"} for row in pairs(60)])


def words(prepared: Prepared) -> set[str]:
    return {str(example.prompt).split()[0] for example in prepared.splits["train"]}


@pytest.mark.parametrize("restored", [False, True])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored: bool) -> None:
    path, cache, opened = tmp_path / "rows.jsonl", tmp_path / "cache", []

    def meanwhile(file, *how):  # type: ignore[no-untyped-def]
        first = not opened
        opened.append(file)
        if first:
            written(path, "new")
        yield from read_rows(file, *how)
        if first and restored:
            written(path, "old")

    written(path, "old")
    monkeypatch.setattr(ingest, "read_rows", meanwhile)
    assert words(prepare(DataOptions(path=str(path)), ALL_TRAIN, cache=cache)) == {"old" if restored else "new"}
    written(path, "old")
    assert words(prepare(DataOptions(path=str(path)), ALL_TRAIN, cache=cache)) == {"old"}


def test_a_file_that_keeps_changing_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", pairs(60))

    def meanwhile(file, *how):  # type: ignore[no-untyped-def]
        yield from read_rows(file, *how)
        with path.open("a") as lines:
            lines.write('{"prompt": "one more", "completion": "yes"}\n')

    monkeypatch.setattr(ingest, "read_rows", meanwhile)
    with pytest.raises(UserError) as caught:
        prepare(DataOptions(path=str(path)), ALL_TRAIN, cache=tmp_path / "cache")
    assert [(fault.code, fault.file) for fault in caught.value.faults] == [("file-changed", str(path))]


def test_labels_are_not_respelt_in_other_rows_than_those_that_were_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [*pairs(60), {"prompt": "one more", "completion": "YES"}])
    readings = []

    def meanwhile(file, *how):  # type: ignore[no-untyped-def]
        yield from read_rows(file, *how)
        readings.append(file)

    monkeypatch.setattr(ingest, "read_rows", meanwhile)
    from kamerton.data import gate

    real = gate.find_spellings

    def find_spellings(*arguments):  # type: ignore[no-untyped-def]
        write_jsonl(path, list(reversed(pairs(60))))
        return real(*arguments)

    monkeypatch.setattr(gate, "find_spellings", find_spellings)
    options = DataOptions(path=str(path), policy={"label-spelling": "fix"})
    with pytest.raises(UserError, match="file-changed"):
        prepare(options, ALL_TRAIN, cache=tmp_path / "cache")
    assert len(readings) == 1
