"""Finding the format of a file by its content, then by its name."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import PurePath

from kamerton.data.data_file import DataFile
from kamerton.data.read.files.arrow import is_arrow
from kamerton.data.read.files.containers import ZIP, open_data, open_zip
from kamerton.data.read.files.encodings import wide_encoding
from kamerton.data.read.files.trec import is_trec

HEAD = 64 * 2**10  # bytes that are inspected
ENDINGS = {
    "jsonl": (".jsonl", ".ndjson", ".json", ".jsonlines"),
    "csv": (".csv", ".tsv", ".tab", ".psv"),
    "parquet": (".parquet", ".pq"),
    "arrow": (".arrow", ".feather"),
    "xlsx": (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"),
    "trec": (".label",),
    "text": (".txt", ".text", ".md"),
}
BINARY = ("parquet", "arrow", "xlsx")
PACKED = (".gz", ".zst", ".bz2", ".xz")
ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz")
DELIMITERS = "\t;|,"
OLE, SPREADSHEET = b"\xd0\xcf\x11\xe0", b"application/vnd.oasis.opendocument.spreadsheet"
MIN_LINES = 3  # with the same number of fields: a table without a name that ends in .csv or the like
JSON = re.compile(r"\s*(\{\s*([\"'}]|$)|\[\s*([{\"\[\]]|$))")
_NOT_DATA = re.compile(r"(README|LICENSE|LICENCE|CHANGELOG|CITATION|NOTICE)(\.(md|txt|rst|cff))?", re.IGNORECASE)


def with_format(file: DataFile) -> DataFile:
    """Return the file with the format that its content has, if its format is `auto`."""
    if file.format != "auto":
        return file
    with open_data(file) as stream:
        head = stream.read(HEAD)
    if head.startswith(b"PAR1"):
        return replace(file, format="parquet")
    if is_arrow(head):
        return replace(file, format="arrow")
    if _is_workbook(head, file):
        return replace(file, format="xlsx")
    encoding = (wide_encoding(head) or "utf-8") if file.encoding == "auto" else file.encoding
    format, named = _text_format(head.decode(encoding, "replace").removeprefix("\ufeff"), file), data_format(file.name)
    return replace(file, format=named if named in BINARY and format == "text" else format)


def with_named_format(file: DataFile) -> DataFile:
    """Return the file with the format that its name suggests, if its format is `auto`."""
    return replace(file, format=data_format(file.name) or "jsonl") if file.format == "auto" else file


def data_format(name: str) -> str | None:
    """Return the format that a file's name suggests, whatever its compression; None if it suggests none."""
    lower = PurePath(name).name.lower()
    for ending in PACKED:
        lower = lower.removesuffix(ending)
    return next((format for format, endings in ENDINGS.items() if lower.endswith(endings)), None)


def is_text_name(name: str) -> bool:
    """Return whether a file's name is that of a text; a text that is named by a number needs no ending."""
    return data_format(name) == "text" or PurePath(name).name.isdecimal()


def is_archive_name(name: str) -> bool:
    """Return whether a file's name is that of an archive."""
    lower = name.lower()
    return lower.endswith(ARCHIVES) or any(lower.endswith(f".tar{ending}") for ending in PACKED)


def is_documentation(name: str) -> bool:
    """Return whether a file's name is that of a text about the data, such as README.md or LICENSE."""
    return _NOT_DATA.fullmatch(PurePath(name).name) is not None


def _is_workbook(head: bytes, file: DataFile) -> bool:
    """Return whether a file that begins with these bytes is a workbook of Excel or LibreOffice."""
    is_named = data_format(file.member or file.path.name) == "xlsx"
    if head.startswith(OLE):  # also of other old documents
        return is_named
    if not head.startswith(ZIP):
        return False
    if file.member or is_named:
        return is_named
    with open_zip(file.path) as archive:
        names = archive.namelist()
    return any(name.startswith("xl/workbook.") for name in names) or SPREADSHEET in head


def _text_format(head: str, file: DataFile) -> str:
    named = "csv" if file.delimiter or file.header else data_format(file.member or file.path.name)
    if JSON.match(head) or (named == "jsonl" and head.lstrip()[:1] in ("{", "[")):
        return "jsonl"
    lines = [line for line in head.splitlines()[:20] if line.strip()]
    if len(head) >= HEAD // 4:
        lines = lines[:-1] or lines  # the last may be incomplete
    if lines and all(map(is_trec, lines[:MIN_LINES])):
        return "trec"
    if named in ("csv", "jsonl"):
        return named if named == "csv" or not _is_table(lines) else "csv"
    return "csv" if _is_table(lines) else "text"


def _is_table(lines: list[str]) -> bool:
    """Return whether the lines have equally many fields with some delimiter, and the first may be a header.

    Tabs need no header: a text without a table has none between its words on every line.
    """
    for delimiter in DELIMITERS:
        try:
            rows = list(csv.reader(lines, delimiter=delimiter))
        except csv.Error:
            continue
        header = rows[0] if rows else []
        if len(header) < 2 or len(rows) < MIN_LINES:
            continue
        same = sum(len(row) == len(header) for row in rows)
        is_header = all(_is_column_name(name) for name in header) and len(set(header)) == len(header)
        if (is_header and same > len(rows) / 2) or (delimiter == "\t" and same == len(rows)):
            return True
    return False


def _is_column_name(text: str) -> bool:
    name = text.strip()
    return 0 < len(name) <= 40 and not re.search(r"[.!?]$", name) and len(name.split()) <= 4
