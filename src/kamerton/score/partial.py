"""Finished rows of a long scoring, kept in a file so that a repeated command resumes from it.

The first line is a fingerprint of model, data and settings; a file with another one is started again. Each batch is
appended and flushed to disk at once, so a kill only loses the running batch; an incomplete last line is truncated.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

Row = dict[str, Any]


class Partial:
    """Finished rows by position of their example; a context manager that closes the file on exit.

    Without a path, the rows are only kept in memory.
    """

    def __init__(self, path: Path | None, fingerprint: str) -> None:
        self.rows: dict[int, Row] = {}
        self._file: BinaryIO | None = None
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        end = self._read(self._file, fingerprint)
        self._file.truncate(end)  # drops an incomplete line, or a file with another fingerprint
        if end == 0:
            _write(self._file, json.dumps({"fingerprint": fingerprint}) + "\n")

    def add(self, rows: Mapping[int, Row]) -> None:
        """Add finished rows to `rows` and to the file."""
        self.rows.update(rows)
        if self._file is not None:
            lines = [json.dumps({"row": position, **row}, ensure_ascii=False) + "\n" for position, row in rows.items()]
            _write(self._file, "".join(lines))

    def __enter__(self) -> Partial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def _read(self, file: BinaryIO, fingerprint: str) -> int:
        """Read the complete lines and return the offset of their end; 0 if the fingerprint differs."""
        file.seek(0)
        end = 0
        for line in file:
            try:
                content = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                break
            if content is None or (end == 0 and content != {"fingerprint": fingerprint}):
                break
            if end:
                self.rows[content.pop("row")] = content
            end += len(line)
        return end


def _write(file: BinaryIO, text: str) -> None:
    file.write(text.encode())
    file.flush()
    os.fsync(file.fileno())
