"""What goes to the terminal: streams that outlive their reader, and a console that prints text as it is."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_NO_READER = (errno.EPIPE, errno.EIO)  # a closed pipe, a terminal that is gone


def plain_console(*, quiet: bool = False, stderr: bool = False) -> Console:
    """A console that leaves `:label:` in a path or a prompt as it is: rich's own makes an emoji of it."""
    from rich.console import Console

    return Console(emoji=False, quiet=quiet, stderr=stderr)


def outlive_reader() -> None:
    """From now on, what is printed after the reader of standard output or error has gone is lost, and nothing else.

    Python would raise, and a long run end, because somebody closed `| head` or the terminal. Streams that something
    has replaced, as a test does, stay as they are.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _outliving(stream))


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
