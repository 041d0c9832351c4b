"""`metrics.csv`: every logged step, one row each. A resumed run goes on in the same file, without repeated rows."""

from __future__ import annotations

import csv
import io
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from kamerton.files import flush, write_text

DAMAGED = "metrics.damaged.csv"


class MetricsFile(Logger):
    """Writes `folder/metrics.csv`; rows after optimizer step `step`, left by an interrupted run, are dropped.

    So are a last line that was cut off, and lines that cannot be read: `damage` says how many, None for a whole file,
    and `DAMAGED` beside it is the file as it was.
    Lightning's own CSV logger deletes the file of the run that it resumes.
    """

    def __init__(self, folder: str, step: int = 0) -> None:
        super().__init__()
        self._path = Path(folder) / "metrics.csv"
        self._columns = ["step", "epoch"]
        self._row: dict[str, Any] = {}
        self.damage: str | None = None
        self._drop_after(step)

    @rank_zero_only
    def _drop_after(self, step: int) -> None:
        """On one rank: two that write the file at once take it from each other, and one of them fails."""
        rows, self.damage = _whole_rows(self._path)
        if self.damage is not None:
            shutil.copyfile(self._path, self._path.with_name(DAMAGED))
        kept = [row for row in rows if int(row["step"]) <= step]
        if kept:
            self._columns = list(dict.fromkeys(key for row in [dict.fromkeys(self._columns), *kept] for key in row))
            write_text(self._path, _text(kept, self._columns, header=True))
        else:
            self._path.unlink(missing_ok=True)

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The configuration is a file of its own."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add `metrics` to the row of a step; Lightning counts steps from 0, the file from 1."""
        number = (step or 0) + 1
        if self._row.get("step") != number:
            self.save()
            self._row = {"step": number}
        self._row |= {key: _number(value) for key, value in metrics.items()}

    @rank_zero_only
    def save(self) -> None:
        """Write the row so far; what is logged later for the same step becomes a row of its own."""
        if len(self._row) < 2:
            return
        new = [key for key in self._row if key not in self._columns]
        if new or not self._path.exists():
            self._columns += new
            write_text(self._path, _text([*_read(self._path), self._row], self._columns, header=True))
        else:
            with self._path.open("a", encoding="utf-8", newline="") as file:
                file.write(_text([self._row], self._columns, header=False))
        self._row = {}

    @rank_zero_only
    def flush(self) -> None:
        """Put the rows on the disk; a checkpoint that is there counts on them."""
        if self._path.exists():
            flush(self._path)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        del status
        self.save()


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: value for key, value in row.items() if value != ""} for row in csv.DictReader(file)]


def _whole_rows(path: Path) -> tuple[list[dict[str, Any]], str | None]:
    """The rows that are whole, and what is wrong with the file."""
    if not path.exists():
        return [], None
    head, *lines = path.read_bytes().split(b"\n")[:-1] or [b""]  # what follows the last line's end was cut off
    columns = _cells(head)
    if "step" not in columns or len(set(columns)) < len(columns):
        return [], "its first line names no columns"
    rows = [dict(zip(columns, cells, strict=True)) for cells in map(_cells, lines) if len(cells) == len(columns)]
    whole = [row for row in rows if row["step"].isdecimal()]
    lost = len(lines) - len(whole)
    damage = f"{lost:,} of its {len(lines):,} lines cannot be read" if lost else None
    return [{key: value for key, value in row.items() if value != ""} for row in whole], damage


def _cells(line: bytes) -> list[str]:
    """The cells of a line; none of one that is no text."""
    try:
        text = line.decode("utf-8")
        return next(csv.reader([text]), []) if "\0" not in text else []
    except (UnicodeDecodeError, csv.Error):
        return []


def _text(rows: list[dict[str, Any]], columns: list[str], *, header: bool) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _number(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
