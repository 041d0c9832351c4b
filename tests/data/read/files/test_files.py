"""Compressed files, archives, workbooks, texts and parallel files give the same rows as the plain file."""

from __future__ import annotations

import bz2
import datetime
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kamerton.data.gate import prepare
from kamerton.data.option_checks import check_data_options
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.data.read.files import containers
from kamerton.data.read.records import read_rows
from kamerton.data.read.sources import find_files
from kamerton.errors import Fault, UserError
from support.rows import pairs

ROWS = pairs(6)
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
TABLE = ("prompt,completion\n" + "".join(f"{row['prompt']},{row['completion']}\n" for row in ROWS)).encode()
ALL_TRAIN = SplitOptions(ratios=[1.0, 0.0, 0.0])


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return sink.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w") -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return sink.getvalue()


def read(path: Path, **options: Any) -> tuple[list[Any], list[str], list[Fault]]:
    """Rows (faults of rows among them), notes, and the faults of files."""
    files, faults = find_files(DataOptions(path=str(path), **options))
    notes: list[str] = []
    files = [] if any(fault.severity == "error" for fault in faults) else files
    rows = [(number, row) for file in files for number, row in read_rows(file, notes.append)]
    faults += [row for number, row in rows if number == 0 and isinstance(row, Fault)]
    return [row for number, row in rows if number], notes, faults


PACK = {
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda content: pa.compress(content, "zstd", asbytes=True),
    "zip": lambda content: zipped({"folder/rows": content}),
    "tar": lambda content: tarred({"./rows": content}),
    "gzip, tar": lambda content: tarred({"rows": content}, "w:gz"),
    "zip, gzip": lambda content: zipped({"rows.gz": gzip.compress(content)}),
    "bz2, gzip": lambda content: bz2.compress(gzip.compress(content)),
}


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("content", [LINES, TABLE, parquet(), json.dumps(ROWS, indent=1).encode()])
def test_the_content_decides_how_a_file_is_unpacked_and_read(kind: str, content: bytes, tmp_path: Path) -> None:
    for name in ("rows", "rows.jsonl", "rows.csv.gz"):
        (tmp_path / name).write_bytes(PACK[kind](content))
        rows, notes, faults = read(tmp_path / name)
        assert (rows, faults) == (ROWS, [])
        assert notes[-1] in ("Parquet", "JSON Lines", "JSON array", "table")


@pytest.mark.parametrize("at", [0, -1])  # in the entry of the file, or in the archive's table of contents
def test_a_damaged_name_in_an_archive_is_a_fault(at: int, tmp_path: Path) -> None:
    parts = zipped({"rowsż.jsonl": LINES}).split("ż".encode())
    joined = (b"\xff\xff" + "ż".encode()) if at == 0 else ("ż".encode() + b"\xff\xff")
    content = parts[0] + joined[:2] + parts[1] + joined[2:] + parts[2]
    (tmp_path / "rows.zip").write_bytes(content)
    _, _, (fault, *_) = read(tmp_path / "rows.zip")
    assert fault.code == "unreadable-file"


@pytest.mark.parametrize("kind", PACK)
def test_utf_16_is_decoded_in_any_container(kind: str, tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(PACK[kind](LINES.decode().encode("utf-16")))
    assert read(tmp_path / "rows")[0] == ROWS


def test_a_name_that_promises_compression_does_not_matter(tmp_path: Path) -> None:
    for name in ("rows.jsonl.gz", "rows.zip", "rows.parquet.zst"):
        (tmp_path / name).write_bytes(LINES)
        assert read(tmp_path / name)[0] == ROWS


def split_names(path: Path, **options: Any) -> tuple[list[tuple[str, str | None]], list[str]]:
    files, faults = find_files(DataOptions(path=str(path), **options))
    return [(file.member, file.split) for file in files], [fault.message for fault in faults]


def test_files_of_an_archive_keep_the_splits_that_they_are_named_after(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    path.write_bytes(
        zipped({"a/train.jsonl": LINES, "a/dev.jsonl": LINES, "test/part-1.csv": TABLE, "README.md": b"x"})
    )
    names, messages = split_names(path)
    assert names == [("a/dev.jsonl", "validation"), ("a/train.jsonl", "train"), ("test/part-1.csv", "test")]
    assert messages == ["not read in this archive: README.md"]
    rows = {"train": pairs(8)[:4], "test": pairs(8)[4:]}
    path.write_bytes(zipped({f"{name}.json": json.dumps(part).encode() for name, part in rows.items()}))
    prepared = prepare(DataOptions(path=str(path), near_duplicates=None))
    assert {name: len(part) for name, part in prepared.splits.items()} == {"train": 4, "test": 4}
    assert prepared.report["split_given"]


@pytest.mark.parametrize("names", [["train.jsonl"], ["train.jsonl", "more.jsonl"], ["dev.jsonl", "test.jsonl"]])
def test_other_archives_are_split_together_with_a_notice(names: list[str], tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(zipped(dict.fromkeys(names, LINES)))
    splits, messages = split_names(tmp_path / "set.zip")
    assert splits == [(name, None) for name in sorted(names)]
    assert any("all files are split together" in message for message in messages) == (len(names) > 1)


def test_junk_in_an_archive_is_not_read_and_named(tmp_path: Path) -> None:
    junk = {"__MACOSX/._rows.jsonl": b"\0\1", ".DS_Store": b"\0", "rows.jsonl": LINES}
    (tmp_path / "set.zip").write_bytes(zipped(junk))
    names, messages = split_names(tmp_path / "set.zip")
    assert names == [("rows.jsonl", None)]
    assert messages == ["not read in this archive: __MACOSX/._rows.jsonl, .DS_Store"]


def test_names_in_an_archive_are_shown_in_one_line(tmp_path: Path) -> None:
    members = {"a\nerror: \x1b[2J.jsonl": b'{"prompt": 1}\n', "b\n\t.bin": b"\0"}
    (tmp_path / "set.tar").write_bytes(tarred(members))
    files, faults = find_files(DataOptions(path=str(tmp_path / "set.tar")))
    assert [fault.message for fault in faults] == ["not read in this archive: b␊␉.bin"]
    assert [file.name.rpartition("/")[2] for file in files] == ["a␊error: ␛[2J.jsonl"]
    assert [row for _, row in read_rows(files[0])] == [{"prompt": 1}]
    assert Fault("x", "m", "f", "a\nb", 1, "c\nd").where == "a␊b:1:c␊d"


def test_a_path_in_an_archive_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, content in (("a.zip", zipped({"../../out.jsonl": LINES})), ("a.tar", tarred({"../../out.jsonl": LINES}))):
        (tmp_path / "in" / name).write_bytes(content)
        assert read(tmp_path / "in" / name)[0] == ROWS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_a_damaged_archive_and_a_bomb_are_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"rows.jsonl": LINES})[:-30])
    _, _, (fault,) = read(tmp_path / "a.zip")
    assert "a zip archive that cannot be opened" in fault.message
    (tmp_path / "a.xz").write_bytes(lzma.compress(LINES * 50)[:-20])
    assert "truncated or damaged" in read(tmp_path / "a.xz")[2][0].message
    monkeypatch.setattr(containers, "MAX_UNPACKED", 100)
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(parquet()))
    assert "its content is larger than" in read(tmp_path / "a.parquet.gz")[2][0].message


@pytest.mark.parametrize("damage", ["at a header", "in a header", "a damaged header"])
def test_a_damaged_tar_archive_does_not_end_at_the_damage(damage: str, tmp_path: Path) -> None:
    whole = tarred({"a.jsonl": LINES, "b.jsonl": LINES})
    second = whole.index(b"b.jsonl")
    kept = {"at a header": 0, "in a header": 100}.get(damage)
    content = whole.replace(b"b.jsonl", b"c.jsonl") if kept is None else whole[: second + kept]  # its checksum is b's
    for name, packed in (("a.tar", content), ("a.tar.gz", gzip.compress(content))):
        (tmp_path / name).write_bytes(packed)
        _, _, (fault,) = read(tmp_path / name)
        assert "a tar archive that cannot be opened: the archive is cut off or damaged behind" in fault.message


def test_an_encrypted_or_ambiguous_zip_archive_is_one_fault(tmp_path: Path) -> None:
    content = bytearray(zipped({"rows.jsonl": LINES}))
    content[6] |= 1
    content[content.find(b"PK\1\2") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    _, _, (fault,) = read(tmp_path / "a.zip")
    assert fault.message.startswith("rows.jsonl is encrypted")
    assert "unpack" in fault.fix
    (tmp_path / "b.zip").write_bytes(zipped({"a.jsonl": LINES, "b.jsonl": LINES}).replace(b"b.jsonl", b"a.jsonl"))
    _, _, (fault,) = read(tmp_path / "b.zip")
    assert fault.message == "the archive has two files that are named a.jsonl"


def workbook(sheets: dict[str, list[list[Any]]]) -> bytes:
    book, sink = openpyxl.Workbook(), io.BytesIO()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(sink)
    return sink.getvalue()


SHEET = [
    [],
    ["prompt", None, "completion", "n", "day"],
    ["a", None, "b", 1, datetime.date(2020, 1, 2)],
    [],
    ["c", None, 2.5],
]
CELLS = [
    (3, {"prompt": "a", "completion": "b", "n": 1, "day": datetime.date(2020, 1, 2)}),
    (5, {"prompt": "c", "completion": 2.5, "n": None, "day": None}),
]


@pytest.mark.parametrize("name", ["rows.xlsx", "rows.csv", "rows"])
def test_the_only_sheet_with_rows_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(workbook({"Notes": [["about"]], "Data": SHEET}))
    (file,), faults = find_files(DataOptions(path=str(tmp_path / name)))
    notes: list[str] = []
    assert (list(read_rows(file, notes.append)), faults, notes) == (CELLS, [], ["workbook, sheet 'Data'"])
    (tmp_path / "rows.zip").write_bytes(zipped({"rows.xlsx": (tmp_path / name).read_bytes()}))
    assert read(tmp_path / "rows.zip")[0] == [row for _, row in CELLS]


def test_several_sheets_are_a_fault_whose_settings_read_each(tmp_path: Path) -> None:
    path = tmp_path / "rows.xlsx"
    path.write_bytes(workbook({"A": SHEET, "B b": SHEET[1:3]}))
    assert read(path)[2][0].fix == "choose one: data.records=A or 'data.records=\"B b\"'"
    assert len(read(path, records="A")[0]) == 2
    assert len(read(path, records="B b")[0]) == 1
    assert "no sheet 'C'" in read(path, records="C")[2][0].message


def test_a_title_above_the_header_of_a_sheet_is_a_fault_whose_setting_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.xlsx"
    rows = [[f"the mill {i} is old", "ab"[i % 2]] for i in range(8)]
    path.write_bytes(workbook({"Sheet": [["Survey of mills"], ["text", "label"], *rows]}))
    (fault,) = read(path)[2]
    assert (fault.code, "data.header=2;" in fault.fix) == ("missing-header", True)
    read_again = read(path, header=2)
    assert (read_again[0][0], len(read_again[0])) == ({"text": "the mill 0 is old", "label": "a"}, 8)
    path.write_bytes(workbook({"Sheet": [["Ankieta"], ["z roku 1700"], ["Zdanie", "Ocena"], *rows]}))
    (fault,) = read(path)[2]
    assert "data.header=3;" in fault.fix
    assert read(path, header=3)[0][0] == {"Zdanie": "the mill 0 is old", "Ocena": "a"}


def test_a_workbook_that_is_not_one_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "rows.xlsx").write_text("words")
    _, _, (fault,) = read(tmp_path / "rows.xlsx")
    assert (fault.code, fault.file) == ("unreadable-file", str(tmp_path / "rows.xlsx"))


def test_a_text_file_is_one_document_or_one_on_each_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffA first line, é.\r\n\r\nA second one.\r\n".encode())
    assert read(path)[0] == [{"text": "A first line, é.\n\nA second one."}]
    assert read(path, records="lines")[0] == [{"text": "A first line, é."}, {"text": "A second one."}]
    path.write_bytes("caf\xe9 ".encode("latin-1") * 9)
    assert [row.code for row in read(path)[0]] == ["undecodable-byte"]


def test_a_folder_of_texts_is_a_corpus(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "c.md"):
        (tmp_path / name).write_text(f"The words of {name}.\n")
    (tmp_path / "LICENSE.txt").write_text("about the words")
    rows, _, faults = read(tmp_path)
    assert rows == [{"text": f"The words of {name}."} for name in ("a.txt", "b.txt", "c.md")]
    assert faults == []


def test_prose_with_commas_is_not_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("On Monday, it rained.\nOn Tuesday, it snowed.\nOn Friday, nothing fell.\n")
    assert len(read(tmp_path / "a.txt")[0]) == 1
    (tmp_path / "b.txt").write_bytes(TABLE)
    assert read(tmp_path / "b.txt")[0] == ROWS


def parallel(tmp_path: Path, prompts: str, completions: str) -> DataOptions:
    (tmp_path / "in.txt").write_text(prompts)
    (tmp_path / "out.txt").write_text(completions)
    return DataOptions(prompt_file=str(tmp_path / "in.txt"), completion_file=str(tmp_path / "out.txt"))


def test_parallel_files_are_read_line_by_line(tmp_path: Path) -> None:
    options = parallel(tmp_path, "one\ntwo, {x}\n\nfour\n", "eins\nzwei\n\nvier")
    assert check_data_options(options) == []
    prepared = prepare(options, ALL_TRAIN)
    texts = {(example.prompt, example.completion) for example in prepared.splits["train"]}
    assert texts == {("one", "eins"), ("two, {x}", "zwei"), ("four", "vier")}


def test_parallel_files_of_different_length_are_one_fault_with_both_counts(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        prepare(parallel(tmp_path, "one\ntwo\nthree\n", "eins\nzwei\n"), ALL_TRAIN)
    (fault,) = (fault for fault in caught.value.faults if fault.severity == "error")
    assert fault.message == "data.prompt_file has 3 lines and data.completion_file 2"


@pytest.mark.parametrize("more", [{}, {"completion_file": "b", "path": "c"}, {"completion_file": "b", "test": "c"}])
def test_parallel_files_are_given_together_and_alone(more: dict[str, Any]) -> None:
    assert [fault.code for fault in check_data_options(DataOptions(prompt_file="a", **more))] == ["bad-value"]


def test_files_of_several_formats_are_read_together(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(ROWS[:2], indent=1))
    (tmp_path / "b.csv").write_text("prompt,completion\nx,y\n")
    (tmp_path / "c.parquet").write_bytes(parquet())
    prepared = prepare(DataOptions(path=str(tmp_path), near_duplicates=None), ALL_TRAIN)
    assert len(prepared.splits["train"]) == 7
    notes = {Path(name).name: ", ".join(words) for name, words in prepared.report["notes"].items()}
    assert notes == {"a.json": "JSON array", "b.csv": "table", "c.parquet": "Parquet"}
