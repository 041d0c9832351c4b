"""`metrics.csv`: every logged step, one row each. A resumed run goes on in the same file, without repeated rows."""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from kamerton.train.rundir import write_atomically


class MetricsFile(Logger):
    """Writes `folder/metrics.csv`; rows after optimizer step `step`, left by an interrupted run, are dropped.

    Lightning's own CSV logger deletes the file of the run that it resumes.
    """

    def __init__(self, folder: str, step: int = 0) -> None:
        super().__init__()
        self._path = Path(folder) / "metrics.csv"
        self._rows = {int(row["step"]): row for row in _read(self._path) if int(row["step"]) <= step}
        self._columns = list(next(iter(self._rows.values()), {"step": 0, "epoch": 0}))
        self._unwritten: list[int] = []
        self._rewrite = True

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
        row = self._rows.setdefault(number, {"step": number})
        row |= {key: _number(value) for key, value in metrics.items()}
        new = [key for key in row if key not in self._columns]
        self._columns += new
        self._rewrite |= bool(new) or (number not in self._unwritten and number != max(self._rows))
        if self._unwritten and self._unwritten[-1] != number:
            self._flush(keep=number)
        if number not in self._unwritten:
            self._unwritten.append(number)

    @rank_zero_only
    def save(self) -> None:
        self._flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self._rewrite = True
        self._flush()

    def _flush(self, keep: int | None = None) -> None:
        """Write complete rows; the row of step `keep` may still grow and stays unwritten."""
        done = [number for number in self._unwritten if number != keep]
        if self._rewrite:
            rows = [self._rows[number] for number in sorted(self._rows) if number != keep]
            write_atomically(self._path, _text(rows, self._columns, header=True))
        elif done:
            with self._path.open("a", encoding="utf-8", newline="") as file:
                file.write(_text([self._rows[number] for number in done], self._columns, header=False))
        self._unwritten = [number for number in self._unwritten if number == keep]
        self._rewrite = False


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: value for key, value in row.items() if value != ""} for row in csv.DictReader(file)]


def _text(rows: list[dict[str, Any]], columns: list[str], *, header: bool) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _number(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
