"""Reading files as raw rows, one at a time.

`read_rows` yields `(number, record)`: the row's number in the file, and either a dict of its fields or a `Fault`, so
that every row of the input is accounted for. The number is the line at which the row begins (1-based, as editors count;
the header of a CSV file is line 1) or, in a Parquet file, that of the record; 0 stands for the whole file.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from kamerton.data.options import DataFile
from kamerton.data.read.commands import rename_command, with_ending
from kamerton.data.read.encodings import encoding_advice, wide_encoding
from kamerton.data.read.json_lines import json_rows
from kamerton.data.read.lines import SAMPLE, decoded_lines, open_bytes
from kamerton.data.read.parquet import parquet_rows
from kamerton.data.read.sniff import HEAD, wrong_kind_fault
from kamerton.data.read.tables import table_rows
from kamerton.data.read.trec import trec_rows
from kamerton.errors import Fault

Row = tuple[int, dict[str, Any] | Fault]
MAGIC = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd"}


def read_rows(file: DataFile, note: Callable[[str], None] = lambda text: None) -> Iterator[Row]:
    """Yield the rows of a file, in order; `note` is called with what was detected, such as the delimiter."""
    name = str(file.path)

    def advise() -> str:
        with open_bytes(file.path) as stream:
            return encoding_advice(stream.read(SAMPLE).split(b"\n"), file.encoding)

    try:
        if file.format == "parquet":
            yield from parquet_rows(file.path)
            return
        with open_bytes(file.path) as stream:
            head = stream.peek(HEAD)[:HEAD]
            if file.encoding == "auto":
                file = replace(file, encoding=wide_encoding(head) or "utf-8")
                if file.encoding != "utf-8":
                    note(f"encoding {file.encoding}")
            fault = wrong_kind_fault(head, file)
            if fault is not None:
                yield 0, fault
                return
            lines = decoded_lines(stream, name, file.encoding, advise)
            if file.format == "jsonl":
                yield from json_rows(lines, file)
            elif file.format == "csv":
                yield from table_rows(lines, file)
            else:
                yield from trec_rows(lines, name)
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        yield 0, _damaged_file_fault(file, (str(error) or type(error).__name__).splitlines()[0])
    except UnicodeError as error:
        fix = f"save the file as {file.encoding}, or set data.encoding to its encoding"
        yield 0, Fault("unreadable-file", f"the file is not {file.encoding}: {error}", fix, name)


def _damaged_file_fault(file: DataFile, reason: str) -> Fault:
    """Return the fault of a file that cannot be opened: it is of another kind than its name indicates, or damaged."""
    path, magic = file.path, MAGIC.get(file.path.suffix.lower())
    with open(path, "rb") as stream:
        head = stream.read(HEAD)
    if not head.startswith(magic or b"PAR1"):
        fault = wrong_kind_fault(head, file)
        if fault is not None:
            return fault
        if magic:
            message = f"the file is named {path.suffix} and is not compressed"
            return Fault("unreadable-file", message, rename_command(path, path.stem, file.split), str(path))
        if head.lstrip().startswith((b"{", b"[")):
            fix = f"{rename_command(path, with_ending(path, '.jsonl'), file.split)} data=jsonl"
            return Fault("unreadable-file", "this is JSON, not Parquet", fix, str(path))
    return Fault("unreadable-file", f"the file is truncated or damaged: {reason}", "write it again", str(path))
