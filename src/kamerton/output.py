"""What goes to the terminal: text without terminal control sequences, on streams that outlive their reader.

Data, file names and run directories may come from a stranger. A control sequence in them could rename the terminal's
window, hide lines or print forged ones, so everything that is printed passes through `printable`.
"""

from __future__ import annotations

import errno
import io
import os
import re
import sys
import traceback
from typing import Any, TextIO

_NO_READER = (errno.EPIPE, errno.EIO)  # a closed pipe, a terminal that is gone
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # C0 and C1 but for tab and line feed


def printable(text: str) -> str:
    """The text with each control character replaced by its picture (ESC by ␛), but for tab and line feed."""
    return _CONTROL.sub(_picture, text)


def _picture(control: re.Match[str]) -> str:
    code = ord(control[0])
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "�"


def echo(text: object = "", *, err: bool = False, end: str = "\n") -> None:
    """Print to standard output, or with `err` to standard error, at once, as `printable` text."""
    stream: TextIO = sys.stderr if err else sys.stdout
    print(printable(str(text)), file=stream, end=end, flush=True)


def echo_traceback(error: BaseException) -> None:
    """Print the traceback of an exception, whose message may quote data."""
    echo("".join(traceback.format_exception(error)), err=True, end="")


def outlive_reader() -> None:
    """From now on, what is printed after the reader of standard output or error has gone is lost, and nothing else.

    Python would raise, and a long run end, because somebody closed `| head` or the terminal. Streams that something
    has replaced, as a test does, stay as they are.
    """
    for name, stream in _own_streams():
        setattr(sys, name, _outliving(stream))


def replace_unencodable() -> None:
    """From now on, a character that the terminal's encoding lacks is printed as `?` instead of raising."""
    for _, stream in _own_streams():
        stream.reconfigure(errors="replace")


def _own_streams() -> list[tuple[str, io.TextIOWrapper]]:
    """Standard output and error, unless something replaced them."""
    streams = [(name, getattr(sys, name)) for name in ("stdout", "stderr")]
    return [
        (name, stream)
        for name, stream in streams
        if stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper)
    ]


def drop_output() -> None:
    """Send the rest of standard output nowhere, so that nothing is said of a closed pipe when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Raw(io.FileIO):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _NO_READER:
                raise
            return memoryview(data).nbytes


def _outliving(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """The same stream, but for what happens when its reader goes."""
    raw = _Raw(stream.fileno(), "w", closefd=False)
    unbuffered = isinstance(stream.buffer, io.RawIOBase)  # python -u
    return io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        newline="\n",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
