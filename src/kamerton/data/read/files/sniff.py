"""Detecting files that are of another kind than their name indicates: one fault per file, with a command to fix it."""

from __future__ import annotations

import csv
import shlex
from collections import Counter
from typing import TYPE_CHECKING

from kamerton.data.read.files import commands
from kamerton.data.read.files.arrow import is_arrow
from kamerton.data.read.files.detect import OLE, data_format
from kamerton.data.read.files.encodings import wide_encoding
from kamerton.errors import Fault
from kamerton.shell import new_name, path_setting

if TYPE_CHECKING:
    from kamerton.data.data_file import DataFile

HEAD = 8192  # bytes that are inspected
_BINARY = (*range(9), *range(14, 27), *range(28, 32))  # control characters that do not occur in texts
_CONVERT = "convert it to JSON Lines, CSV or Parquet with the program that wrote it"
AUTO = "data=auto finds the format of each file by its content"
_PAGE = "download the file itself: /resolve/ in place of /blob/ in links of Hugging Face, /raw/ in those of GitHub"
_KINDS = (
    (b"SQLite format 3\0", "an SQLite database"),
    (b"%PDF-", "a PDF document"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (OLE, "an old Excel or Word document"),
    (b"\x80\x04\x95", "a pickle, which is never opened because it may run a program"),
    (b"\x80\x02}", "a pickle, which is never opened because it may run a program"),
    (b"\x80\x03}", "a pickle, which is never opened because it may run a program"),
    (b"\x80\x05\x95", "a pickle, which is never opened because it may run a program"),
    (b"{\\rtf", "a rich-text document"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"RIFF", "an image, a sound or a film"),
    (b"ID3", "a sound"),
    (b"OggS", "a sound"),
    (b"fLaC", "a sound"),
    (b"Obj\x01", "an Avro file"),
    (b"ORC", "an ORC file"),
)


def wrong_kind_fault(head: bytes, file: DataFile) -> Fault | None:
    """Return a fault if a file that begins with these bytes is of another kind than `file.format`, else None."""
    kind_and_fix = _detect_kind(head, file)
    if kind_and_fix is None:
        return None
    kind, fix = kind_and_fix
    return Fault("unreadable-file", f"this is {kind}", fix, file.name)


def _detect_kind(head: bytes, file: DataFile) -> tuple[str, str] | None:
    """Return the kind of the file and the fix; None if the bytes fit `file.format`."""
    path, text = file.path, head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer, not the file itself", shlex.join(["git", "-C", str(path.parent), "lfs", "pull"])
    if b"/annex/objects/" in head[:200] and len(head) < 500:
        return "a git-annex pointer, not the file itself", shlex.join(
            ["git", "-C", str(path.parent), "annex", "get", path.name]
        )
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<body")):
        return "a web page (HTML)", _PAGE
    if text.startswith(b"<?xml"):
        return "an XML document", _CONVERT if b"<html" not in text else _PAGE
    container = _detect_container(head, file)
    if container is not None:
        return container
    for magic, kind in _KINDS:
        if head.startswith(magic) and not (magic == OLE and file.format == "xlsx"):
            return kind, _CONVERT
    if file.format in ("parquet", "arrow"):
        is_right = head.startswith(b"PAR1") if file.format == "parquet" else is_arrow(head)
        kind = "a Parquet" if file.format == "parquet" else "an Arrow"
        return None if is_right else (f"not {kind} file", f"write or download it again; {AUTO}")
    return None if file.format == "xlsx" else _detect_text(head, file)


def _detect_container(head: bytes, file: DataFile) -> tuple[str, str] | None:
    """Detect columnar files, workbooks and archives."""
    path = file.path
    if head.startswith(b"PAR1"):
        return None if file.format == "parquet" else ("a Parquet file", AUTO)
    if is_arrow(head):
        return None if file.format == "arrow" else ("an Arrow file", AUTO)
    if head.startswith(b"7z\xbc\xaf"):
        return "a file compressed with 7-Zip", f"unpack it: 7z x {shlex.quote(str(path))}"
    if head.startswith(b"PK\x03\x04"):
        if file.format == "xlsx":
            return None
        if data_format(file.name) == "xlsx" or b"xl/" in head:
            return "an Excel workbook", AUTO
        return "a ZIP archive within another file", "unpack the outer file"
    if head[257:262] == b"ustar":
        return "a tar archive within another file", "unpack the outer file"
    return None


def _detect_text(head: bytes, file: DataFile) -> tuple[str, str] | None:
    """Detect text in an encoding of two or four bytes and binary files."""
    if file.encoding != "auto" and "\n".encode(file.encoding) != b"\n":
        return None  # configured as UTF-16 or similar
    encoding = wide_encoding(head)
    if encoding is not None:
        return f"text in {encoding}", f"data.encoding={encoding}"
    if sum(head.count(bytes([code])) for code in _BINARY) > len(head) / 50:
        return "a binary file, not text", _CONVERT
    return None


def _count_fields(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line.strip("\r\n\ufeff")], delimiter=delimiter), []))
    except csv.Error:
        return 1


def unreadable_file_faults(faults: list[Fault], first: str, file: DataFile, *, all_read: bool) -> list[Fault]:
    """Summarise `faults`, the faults of all rows of a file without a readable row: one fault for each code.

    `first` is the first line, `all_read` whether the rows are those of the whole file.
    """
    counts = Counter(fault.code for fault in faults)
    summaries = []
    for code, count in counts.items():
        fault = next(fault for fault in faults if fault.code == code)
        rows = f"{'all' if all_read else 'the first'} {count:,} rows" if len(counts) == 1 else f"{count:,} rows"
        fix = _guess_fix(first, file) or fault.fix
        summaries.append(Fault(code, f"{rows}: {fault.message}", fix, file.shown))
    return summaries


def _guess_fix(first: str, file: DataFile) -> str | None:
    """Return a fix for lines that are not JSON, if the first line allows a guess."""
    if file.format != "jsonl":
        return None
    if first.startswith(("{'", "{ '")):
        new = path_setting(new_name(file.path, ".jsonl"), file.split)
        return f"these are Python dictionaries: {commands.python_objects(file.path)}, then {new}"
    if not first.startswith(("{", "[", '"')) and max(_count_fields(first, sign) for sign in ",;\t") > 1:
        return f"if this is a table: {AUTO}"
    return None
