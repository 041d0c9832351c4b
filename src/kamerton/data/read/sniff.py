"""What a file is if it is not what its name says: one fault for the whole file, with the way on."""

from __future__ import annotations

import csv
import shlex
from collections import Counter
from typing import TYPE_CHECKING

from kamerton.data.read import commands
from kamerton.errors import Fault

if TYPE_CHECKING:
    from kamerton.data.options import DataFile

HEAD = 8192  # bytes that are looked at
_NO_TEXT = (*range(9), *range(14, 27), *range(28, 32))  # controls that no text holds
_ELSEWHERE = "convert it to JSON Lines, CSV or Parquet with the program that wrote it"
_PAGE = "download the file itself: /resolve/ in place of /blob/ in links of Hugging Face, /raw/ in those of GitHub"
_MARKS = (
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_KINDS = (
    (b"SQLite format 3\0", "an SQLite database"),
    (b"%PDF-", "a PDF document"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word document"),
    (b"\x80\x04\x95", "a pickle, which is never opened because it may run a program"),
    (b"\x80\x05\x95", "a pickle, which is never opened because it may run a program"),
    (b"{\\rtf", "a rich-text document"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"Obj\x01", "an Avro file"),
    (b"ORC", "an ORC file"),
)


def foreign(head: bytes, file: DataFile) -> Fault | None:
    """Return the fault of a file that begins with these bytes and is of another kind than `file.format`; None: go on."""
    found = _kind(head, file)
    if found is None:
        return None
    return Fault("unreadable-file", f"this is {found[0]}", found[1], str(file.path))


def _kind(head: bytes, file: DataFile) -> tuple[str, str] | None:
    """Return what it is, and what to do."""
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
        return "an XML document", _ELSEWHERE if b"<html" not in text else _PAGE
    packed = _packed(head, file)
    if packed is not None:
        return packed
    for magic, what in _KINDS:
        if head.startswith(magic):
            return what, _ELSEWHERE
    return None if file.format == "parquet" else _text(head, file)


def _packed(head: bytes, file: DataFile) -> tuple[str, str] | None:
    """Return columnar files and archives."""
    path = file.path
    if head.startswith(b"PAR1") and file.format != "parquet":
        return "a Parquet file", f"{commands.renamed(path, f'{path.stem}.parquet', file.split)} data=parquet"
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        stream = not head.startswith(b"ARROW1")
        return "an Arrow file", commands.parquet_of({path.stem: [path]}, stream=stream)
    for magic, kind, ending in ((b"\x1f\x8b", "gzip", ".gz"), (b"\x28\xb5\x2f\xfd", "Zstandard", ".zst")):
        if head.startswith(magic):
            unpack = "gunzip" if kind == "gzip" else "unzstd"
            rename = commands.renamed(path, f"{path.name}{ending}", file.split)
            unpacks = file.format == "parquet" or path.suffix.lower() == ending
            return f"a file packed with {kind}", f"unpack it: {unpack}" if unpacks else rename
    archives = {b"BZh": ("bzip2", "bunzip2 -k"), b"\xfd7zXZ": ("xz", "unxz -k"), b"7z\xbc\xaf": ("7-Zip", "7z x")}
    for magic, (kind, unpack) in archives.items():
        if head.startswith(magic):
            return f"a file packed with {kind}", f"unpack it: {unpack} {shlex.quote(str(path))}"
    if head.startswith(b"PK\x03\x04"):
        if b"[Content_Types].xml" in head or b"xl/" in head:
            return "an Excel workbook", "save it as CSV UTF-8 (comma delimited)"
        return "a ZIP archive", f"unpack it: unzip {shlex.quote(str(path))}"
    if head[257:262] == b"ustar":
        return "a tar archive", f"unpack it: tar -xf {shlex.quote(str(path))}"
    return None


def _text(head: bytes, file: DataFile) -> tuple[str, str] | None:
    """Return text in an encoding of two or four bytes, bytes that are no text, and lines of another kind."""
    if not "\n".encode(file.encoding).isascii() or "\n".encode(file.encoding) != b"\n":
        return None  # UTF-16 and the like, asked for
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return f"text in {encoding}", f"data.encoding={encoding}"
    zeros = tuple(byte == 0 for byte in head[:4])
    wide = {
        (False, True, True, True): "utf-32-le",
        (True, True, True, False): "utf-32-be",
        (False, True, False, True): "utf-16-le",
        (True, False, True, False): "utf-16-be",
    }
    if zeros in wide:
        return f"text in {wide[zeros]}", f"data.encoding={wide[zeros]}"
    if sum(head.count(bytes([code])) for code in _NO_TEXT) > len(head) / 50:
        return "a binary file, not text", _ELSEWHERE
    if head.count(b"\r") > 1 and b"\n" not in head:
        to = commands.target(file.path, file.path.suffix)
        fix = f"tr '\\r' '\\n' < {shlex.quote(str(file.path))} > {to}, then {commands.reading(to, file.split)}"
        return "text whose lines end in a carriage return alone", fix
    return None


def other_table(line: str, file: DataFile, delimiter: str, codec: str) -> Fault | None:
    """Return the fault of a table whose header, `line`, is separated by something else than `delimiter`.

    `codec` is what its bytes can be read in.
    """
    path, skip = file.path, 0
    if line.lower().startswith("sep=") and len(line.strip()) == 5:
        found, skip = line.strip()[4], 1  # Excel's own note
        if found == delimiter:
            return None
    else:
        counts = {sign: _fields(line, sign) for sign in (",", ";", "\t", "|")}
        found = max(counts, key=lambda sign: counts[sign])
        if counts[delimiter] > 1 or counts[found] < 2:
            return None
    names = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
    if found in ",\t" and not skip:
        fix = commands.renamed(path, commands.name_as(path, ".tsv" if found == "\t" else ".csv"), file.split)
    else:
        new = commands.reading(commands.target(path, ".csv"), file.split)
        fix = f"{commands.comma_separated(path, found, codec, skip=skip)}, then {new}"
    what = names.get(found, repr(found))
    message = f"its columns are separated by {what}, where its name means {names[delimiter]}"
    return Fault("unreadable-file", message, fix, str(path))


def _fields(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line.strip("\r\n\ufeff")], delimiter=delimiter), []))
    except csv.Error:
        return 1


def no_row(faults: list[Fault], first: str, file: DataFile, *, all_read: bool) -> list[Fault]:
    """Return one fault for each code of `faults`, which are those of every row: nothing in the file can be read."""
    counts = Counter(fault.code for fault in faults)
    whole = []
    for code, count in counts.items():
        fault = next(fault for fault in faults if fault.code == code)
        rows = f"{'all' if all_read else 'the first'} {count:,} rows" if len(counts) == 1 else f"{count:,} rows"
        fix = _guess(first, file) or fault.fix
        whole.append(Fault(code, f"{rows}: {fault.message}", fix, str(file.path)))
    return whole


def _guess(first: str, file: DataFile) -> str | None:
    """Return what to do with lines that are not JSON, if their first one tells."""
    if file.format != "jsonl":
        return None
    if first.startswith(("{'", "{ '")):
        new = commands.reading(commands.target(file.path, ".jsonl"), file.split)
        return f"these are Python dictionaries: {commands.python_objects(file.path)}, then {new}"
    if not first.startswith(("{", "[", '"')) and max(_fields(first, sign) for sign in ",;\t") > 1:
        name = commands.name_as(file.path, ".tsv" if "\t" in first else ".csv")
        return f"if this is a table: {commands.renamed(file.path, name, file.split)} data=csv"
    return None
