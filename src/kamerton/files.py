"""Files that a reader sees whole or not at all, whatever happens while they are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write instead: at the end of the block it replaces `path`, at once; after an error it is gone.

    It has the same name each time, so what a kill leaves behind is overwritten when the file is written again. For one
    writer at a time.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Replace the file at `path` by `text`, in UTF-8."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
