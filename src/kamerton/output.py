"""Terminal output: text without control sequences, on streams that survive a closed pipe.

Data, file names and run directories may be hostile. A control sequence in them could rename the terminal's
window, hide lines or print forged ones, so everything that is printed passes through `printable`.
"""

from __future__ import annotations

import errno
import io
import os
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from kamerton.errors import Fault

_NO_READER = (errno.EPIPE, errno.EIO)  # a closed pipe or terminal
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # C0 and C1 but for tab and line feed


def printable(text: str) -> str:
    """Replace each control character except tab and line feed by its symbol, such as ESC by ␛."""
    return _CONTROL.sub(_picture, text)


def printable_name(name: str) -> str:
    """Return a name in one line: as `printable`, with symbols for tabs and line feeds as well."""
    return re.sub("[\t\n]", _picture, printable(name))


def _picture(control: re.Match[str]) -> str:
    code = ord(control[0])
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "�"


def echo(text: object = "", *, err: bool = False, end: str = "\n") -> None:
    """Print to standard output, or with `err` to standard error, at once, as `printable` text."""
    stream: TextIO = sys.stderr if err else sys.stdout
    print(printable(str(text)), file=stream, end=end, flush=True)


def echo_traceback(error: BaseException) -> None:
    """Print the traceback of an exception as `printable` text: its message may quote data."""
    echo("".join(traceback.format_exception(error)), err=True, end="")


def print_fault(fault: Fault) -> None:
    """Print a fault on standard error, with its place and its fix."""
    echo(f"{fault.severity}: {fault}", err=True)


def print_faults(faults: Iterable[Fault]) -> None:
    """Print faults, errors first, and how many of which kind."""
    ordered = sorted(faults, key=lambda fault: fault.severity)
    for fault in ordered:
        print_fault(fault)
    print_counts(ordered)


def print_counts(faults: Sequence[Fault], note: str = "") -> None:
    """Print how many faults of which kind there are, nothing for none; after errors, `note` as well."""
    numbers = {kind: sum(fault.severity == kind for fault in faults) for kind in ("error", "warning")}
    words = [f"{number} {kind}{'s' if number != 1 else ''}" for kind, number in numbers.items() if number]
    if words:
        ending = f"; nothing was done{note}" if numbers["error"] else ""
        echo(f"\n{', '.join(words)}{ending}", err=True)


def outlive_reader() -> None:
    """Make printing to a closed pipe or terminal drop the text instead of raising.

    Python would raise, and a long run would fail, because somebody closed `| head` or the terminal. Replaced streams,
    such as those of a test, are left alone.
    """
    for name, stream in _own_streams():
        setattr(sys, name, _outliving(stream))


def replace_unencodable() -> None:
    """Print characters that the terminal's encoding lacks as `?` instead of raising."""
    for _, stream in _own_streams():
        stream.reconfigure(errors="replace")


def _own_streams() -> list[tuple[str, io.TextIOWrapper]]:
    """Return standard output and error, without replaced ones."""
    streams = [(name, getattr(sys, name)) for name in ("stdout", "stderr")]
    return [
        (name, stream)
        for name, stream in streams
        if stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper)
    ]


def drop_output() -> None:
    """Discard the rest of standard output, so that Python does not complain about a closed pipe at exit."""
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
    """Return the same stream, which drops what is written once its reader is gone."""
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
