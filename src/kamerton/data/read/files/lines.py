"""Reading a text file as decoded lines."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import IO

from kamerton.errors import Fault

Line = tuple[str, Fault | None]  # a line as text, and the fault that makes it unusable
BOM = b"\xef\xbb\xbf"
UTF8 = ("utf-8", "utf8", "utf-8-sig", "utf_8")
SAMPLE = 4 * 2**20  # bytes that are read to determine an encoding
MAX_LINE = 64 * 2**20  # bytes


def decoded_lines(stream: IO[bytes], file: str, encoding: str, advise: Callable[[], str]) -> Iterator[Line]:
    """Yield each line as text, with a fault if it has bytes outside the encoding or is too long for a row.

    `advise` returns the fix for such bytes; it is called once.

    Raises UnicodeError if the file is in another multi-byte encoding.
    """
    if "\n".encode(encoding) != b"\n" and encoding.lower() not in UTF8:
        for number, text in enumerate(io.TextIOWrapper(stream, encoding, newline="\n")):  # UTF-16 and the like
            yield text if number else text.removeprefix("\ufeff"), None
        return
    codec = "utf-8" if encoding.lower() in UTF8 else encoding
    offset, fix = 0, ""
    while line := stream.readline(MAX_LINE):
        start, offset = offset, offset + len(line)
        if len(line) == MAX_LINE and not line.endswith(b"\n"):
            while rest := stream.readline(MAX_LINE):
                offset += len(rest)
                if rest.endswith(b"\n"):
                    break
            message = f"the line is longer than {MAX_LINE >> 20} MiB"
            yield "", Fault("row-too-large", message, "write one row on each line", file)
            continue
        if start == 0 and codec == "utf-8" and line.startswith(BOM):
            line, start = line[len(BOM) :], len(BOM)
        try:
            yield line.decode(codec), None
        except UnicodeDecodeError as error:
            fix = fix or advise()
            byte, position = error.object[error.start], start + error.start
            message = f"byte 0x{byte:02x} at offset {position:,} of the file is not {codec}"
            yield line.decode(codec, "replace"), Fault("undecodable-byte", message, fix, file)
