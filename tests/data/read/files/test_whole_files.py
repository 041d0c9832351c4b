"""A file of another format than its name says is one fault with the format and a working fix."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kamerton.data.gate import Prepared, prepare
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.data.read.files.encodings import encoding_advice
from kamerton.errors import Fault, UserError
from support.rows import pairs

ROWS = pairs(40)
TABLE = pa.Table.from_pylist(ROWS)
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
ALL_TRAIN = SplitOptions(ratios=[1.0, 0.0, 0.0])


def table(delimiter: str = ",", rows: list[dict[str, Any]] = ROWS, **how: Any) -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n", **how)
    writer.writerows([list(rows[0]), *(row.values() for row in rows)])
    return out.getvalue()


def arrow(stream: bool = True) -> bytes:
    sink = pa.BufferOutputStream()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return sink.getvalue().to_pybytes()


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(TABLE, sink)
    return sink.getvalue()


def gated(path: Path, **options: Any) -> Prepared:
    return prepare(DataOptions(path=str(path), **options), ALL_TRAIN)


def refused(path: Path, **options: Any) -> Fault:
    """The only fault of a file."""
    with pytest.raises(UserError) as caught:
        gated(path, **options)
    (fault,) = (fault for fault in caught.value.faults if fault.severity == "error")
    assert str(path) in str(fault.file)
    return fault


def followed(fault: Fault, folder: Path, path: Path, format: str) -> Prepared:
    """The data after the fix was done: its command run in `folder`, the settings it names set."""
    parts = fault.fix.split(", then ")
    command = re.search(r"(python -c|mv|tr) .*", parts[0], re.S)
    if command is not None:
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        subprocess.run(command.group(), shell=True, cwd=folder, check=True, env=environment)
        target = re.search(r"> (\S+)$", command.group())
        path = folder / target.group(1) if target else path
    settings = dict(word.split("=", 1) for part in parts for word in shlex.split(part) if word.startswith("data"))
    format = settings.get("data", format)
    encoding = settings.get("data.encoding", "auto")
    moved = settings.get("data.path") or settings.get("data.train")
    return gated(folder / moved if moved else path, format=format, encoding=encoding)


MENDABLE: dict[str, tuple[str, str, bytes, str]] = {
    "dictionaries": ("rows.jsonl", "jsonl", "\n".join(map(str, ROWS)).encode(), "all 40 rows: not JSON"),
    "packed json in a table": ("rows.csv.gz", "csv", gzip.compress(LINES.encode()), "this is JSON, not a table"),
    "json lines in a table": ("rows.csv", "csv", LINES.encode(), "this is JSON, not a table"),
    "an array in a table": ("rows.csv", "csv", json.dumps(ROWS, indent=1).encode(), "this is JSON, not a table"),
    "json lines in parquet": ("rows.parquet", "parquet", LINES.encode(), "not a Parquet file"),
    "a table": ("rows.jsonl", "jsonl", table().encode(), "not JSON"),
    "parquet": ("rows.jsonl", "jsonl", parquet(), "a Parquet file"),
    "arrow stream": ("rows.arrow", "parquet", arrow(), "is that of an arrow file"),
    "arrow file": ("rows.feather", "jsonl", arrow(stream=False), "is that of an arrow file"),
    "lines in text": ("rows.txt", "csv", LINES.encode(), "the name of the file is that of a text file"),
}


@pytest.mark.parametrize("kind", MENDABLE)
def test_the_fix_of_a_whole_file_can_be_pasted_and_works(kind: str, tmp_path: Path) -> None:
    name, format, content, message = MENDABLE[kind]
    path = tmp_path / "here" / name
    path.parent.mkdir()
    path.write_bytes(content)
    fault = refused(path, format=format)
    assert message in fault.message
    rows = followed(fault, tmp_path, path, format).splits["train"]
    result = {(example.prompt, example.completion) for example in rows}
    assert result == {(row["prompt"], row["completion"]) for row in ROWS}


FOREIGN = {
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "Git LFS pointer",
        "lfs pull",
    ),
    "annex": (b"/annex/objects/SHA256E-s12--ab.jsonl\n", "git-annex pointer", "annex get"),
    "html": (b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n", "a web page", "/resolve/"),
    "xhtml": (b'<?xml version="1.0"?>\n<html xmlns="x"></html>\n', "an XML document", "/resolve/"),
    "xml": (b'<?xml version="1.0"?>\n<rows>\n<row/>\n</rows>\n', "an XML document", "convert it"),
    "zip": (b"PK\x03\x04" + bytes(100), "a zip archive", "download it again"),
    "excel": (b"PK\x03\x04" + bytes(26) + b"[Content_Types].xml", "a zip archive", "download it again"),
    "tar": (bytes(257) + b"ustar" + bytes(200), "a tar archive", "download it again"),
    "pickle": (b"\x80\x04\x95" + bytes(20), "a pickle", "convert it"),
    "sqlite": (b"SQLite format 3\0" + bytes(80), "an SQLite database", "convert it"),
    "binary": (bytes(range(256)) * 8, "a binary file", "convert it"),
}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet", "rows.csv.gz", "rows.bin"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_of_another_kind_is_one_fault_that_names_it(kind: str, name: str, tmp_path: Path) -> None:
    content, message, fix = FOREIGN[kind]
    path = tmp_path / name
    path.write_bytes(content)
    if name.endswith(".parquet") and kind == "binary":
        message, fix = "", ""
    fault = refused(path, format="csv" if "csv" in name else "parquet" if "parquet" in name else "jsonl")
    assert message in fault.message
    assert fix in fault.fix


def test_a_save_to_disk_folder_is_recognised_for_every_format(tmp_path: Path) -> None:
    for split in ("train", "test"):
        folder = tmp_path / "saved set" / split
        folder.mkdir(parents=True)
        (folder / "data-00000-of-00001.arrow").write_bytes(arrow())
        (folder / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    for format in ("parquet", "jsonl"):
        fault = refused(tmp_path / "saved set", format=format)
        assert "save_to_disk" in fault.message
        assert shlex.split(fault.fix)[0] == "data=auto"
        assert len(gated(tmp_path / "saved set" / "train", format="auto").splits["train"]) == 40


def test_quoted_texts_of_a_tsv_may_hold_line_ends(tmp_path: Path) -> None:
    rows = [row | {"prompt": f"first line {i}\n{row['prompt']}"} for i, row in enumerate(ROWS)]
    (tmp_path / "rows.tsv").write_text(table("\t", rows))
    assert len(gated(tmp_path / "rows.tsv", format="csv").splits["train"]) == 40


def test_a_file_that_begins_well_has_a_fault_for_each_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(LINES + "{\nno\n")
    with pytest.raises(UserError) as caught:
        gated(path)
    assert [fault.row for fault in caught.value.faults if fault.severity == "error"] == [41, 42]
    path.write_text("{\nno\n[]\n" + LINES)
    with pytest.raises(UserError) as caught:
        gated(path)
    assert [fault.row for fault in caught.value.faults if fault.severity == "error"] == [1, 2, 3]
    left = gated(path, policy={"bad-json": "drop", "not-an-object": "drop"})
    assert (left.report["counts"]["rows read"], left.report["rejected"]) == (43, {"bad-json": 2, "not-an-object": 1})


def test_reading_stops_after_many_unreadable_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("not json\n" * 5000)
    assert "the first 1,000 rows" in refused(path).message


SENTENCES = {
    "cp1250": "Święty młyn stał w Łodzi, a źródlany nad rzeką",
    "iso-8859-2": "Święty młyn stał w Łodzi, a źródlany nad rzeką",
    "cp1252": "Müller fährt über die Straße, ça va très bien",
    "cp1251": "Сколько мельниц стояло тогда у реки",
    "koi8-r": "Сколько мельниц стояло тогда у реки",
    "cp1253": "Πόσοι μύλοι ήταν τότε στο ποτάμι",
    "cp1254": "Şişli'de kaç değirmen vardı",
    "cp932": "当時、川のそばに風車はいくつありましたか",
    "gb18030": "当时河边有多少风车，谁知道",
    "big5": "當時河邊有多少風車",
    "euc-kr": "그때 강가에 풍차가 몇 개 있었나요",
}


@pytest.mark.parametrize("encoding", SENTENCES)
def test_the_encodings_advised_show_the_text_and_the_right_one_is_among_them(encoding: str) -> None:
    sentence = SENTENCES[encoding]
    fix = encoding_advice([sentence.encode(encoding)], "utf-8")
    offered = dict(re.findall(r"data\.encoding=(\S+) reads '([^']*)'", fix))
    shown = {codec: text for codec, text in offered.items() if set(text.split()) <= set(re.split(r"[\s,']", sentence))}
    assert any(sentence.encode(encoding).decode(codec) == sentence for codec in shown) or not shown
    assert encoding in offered or shown


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_wide_encodings_are_detected_and_reported(encoding: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{ending}"
    path.write_bytes((table() if ending == "csv" else LINES).encode(encoding))
    prepared = gated(path, format=ending)
    assert {example.prompt for example in prepared.splits["train"]} == {row["prompt"] for row in ROWS}
    assert f"encoding {encoding}" in prepared.report["notes"][str(path)]
    fault = refused(path, format=ending, encoding="utf-8")
    assert (fault.message, fault.fix) == (f"this is text in {encoding}", f"data.encoding={encoding}")


def test_rows_in_another_encoding_are_one_fault_and_the_fix_that_reads_right_works(tmp_path: Path) -> None:
    rows = [
        row | {"prompt": f"{row['prompt']} {'Święty źródlany młyn' if i % 3 else ''}"} for i, row in enumerate(ROWS)
    ]
    path = tmp_path / "rows.csv"
    path.write_bytes(table(rows=rows).encode("cp1250"))
    fault = refused(path, format="csv")
    assert (fault.code, fault.row) == ("undecodable-byte", 3)
    assert fault.message.endswith("of the file is not utf-8 (26 of 40 rows)")
    assert "data.encoding=cp1250 reads 'Święty źródlany'" in fault.fix
    prompts = [example.prompt for example in gated(path, format="csv", encoding="cp1250").splits["train"]]
    assert sum("Święty źródlany młyn" in str(prompt) for prompt in prompts) == 26
    dropped = gated(path, format="csv", policy={"undecodable-byte": "drop"})
    assert dropped.report["rejected"] == {"undecodable-byte": 26}


def test_an_invalid_byte_in_a_utf8_file_does_not_change_the_detected_encoding(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    more = json.dumps({"prompt": "Święty młyn", "completion": "yes"}, ensure_ascii=False)
    path.write_bytes((LINES + more + "\n").encode() + b'{"prompt": "br\xfccken", "completion": "no"}\n')
    fault = refused(path)
    assert fault.row == 42
    assert "data.encoding" not in fault.fix
    assert "data.policy.undecodable-byte=drop" in fault.fix


def test_encodings_are_proposed_for_words_without_letters() -> None:
    assert "data.encoding=cp1252 reads '£5'" in encoding_advice(["Win £5 now".encode("cp1252")], "utf-8")
