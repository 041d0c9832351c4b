"""`metrics.csv`: one row per logged step. A resumed run appends to the same file without repeating rows."""

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
    """Lightning logger that writes `folder/metrics.csv`.

    Rows after optimizer step `step`, left by an interrupted run, are dropped. So are a truncated last line and
    unreadable lines: `damage` describes them (None for an intact file), and `DAMAGED` keeps a copy of the file.
    Lightning's own CSV logger deletes the file when a run is resumed.
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
        """Rewrite the file without later and damaged rows; on rank 0 only, because concurrent renames fail."""
        rows, self.damage = _intact_rows(self._path)
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
        """Do nothing: `config.yaml` has the configuration."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add `metrics` to the row of a step. Lightning counts steps from 0, the file from 1."""
        number = (step or 0) + 1
        if self._row.get("step") != number:
            self.save()
            self._row = {"step": number}
        self._row |= {key: value.item() if hasattr(value, "item") else value for key, value in metrics.items()}

    @rank_zero_only
    def save(self) -> None:
        """Write the current row; values logged later for the same step start a new row."""
        if len(self._row) < 2:
            return
        new = [key for key in self._row if key not in self._columns]
        if new or not self._path.exists():
            self._columns += new
            rows: list[dict[str, Any]] = []
            if self._path.exists():
                with self._path.open(encoding="utf-8", newline="") as file:
                    rows = [{key: value for key, value in row.items() if value != ""} for row in csv.DictReader(file)]
            write_text(self._path, _text([*rows, self._row], self._columns, header=True))
        else:
            with self._path.open("a", encoding="utf-8", newline="") as file:
                file.write(_text([self._row], self._columns, header=False))
        self._row = {}

    @rank_zero_only
    def flush(self) -> None:
        """Flush the rows to the disk: a checkpoint on the disk relies on them."""
        if self._path.exists():
            flush(self._path)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        del status
        self.save()


def _intact_rows(path: Path) -> tuple[list[dict[str, Any]], str | None]:
    """Return the intact rows, and a description of the damage if there is any."""
    if not path.exists():
        return [], None
    head, *lines = path.read_bytes().split(b"\n")[:-1] or [b""]  # without a truncated last line
    columns = _cells(head)
    if "step" not in columns or len(set(columns)) < len(columns):
        return [], "its first line names no columns"
    rows = [dict(zip(columns, cells, strict=True)) for cells in map(_cells, lines) if len(cells) == len(columns)]
    intact = [row for row in rows if row["step"].isdecimal()]
    lost = len(lines) - len(intact)
    damage = f"{lost:,} of its {len(lines):,} lines cannot be read" if lost else None
    return [{key: value for key, value in row.items() if value != ""} for row in intact], damage


def _cells(line: bytes) -> list[str]:
    """Return the cells of a line; empty if it is not valid text."""
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
