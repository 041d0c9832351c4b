"""What a long scoring has finished so far: lines of a file that a repeated command goes on from.

The first line names what the rows belong to (model, data, settings); a file of anything else is begun anew. A batch is
appended at once and forced to the disk, so a kill loses the batch that was running; a torn last line is cut off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

Row = dict[str, Any]


class Partial:
    """Finished rows by their example's position. A context manager: leaving it closes the file."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self.rows: dict[int, Row] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        end = self._read(fingerprint)
        self._file.truncate(end)
        if end == 0:
            self._write(json.dumps({"fingerprint": fingerprint}) + "\n")

    def add(self, rows: Mapping[int, Row]) -> None:
        """Keep more rows."""
        self.rows.update(rows)
        self._write("".join(json.dumps({"row": at, **row}, ensure_ascii=False) + "\n" for at, row in rows.items()))

    def __enter__(self) -> Partial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def _read(self, fingerprint: str) -> int:
        """Take in the whole lines; returns where they end, 0 for a file of something else."""
        self._file.seek(0)
        end = 0
        for line in self._file:
            try:
                found = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                break
            if found is None or (end == 0 and found != {"fingerprint": fingerprint}):
                break
            if end:
                self.rows[found.pop("row")] = found
            end += len(line)
        return end

    def _write(self, text: str) -> None:
        self._file.write(text.encode())
        self._file.flush()
        os.fsync(self._file.fileno())
