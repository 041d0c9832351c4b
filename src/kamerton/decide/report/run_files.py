"""A run directory as plain values: every file that is there, and for every other one why it is not.

Runs stop early and disks fill up, so nothing here raises for a missing or damaged file; the report says what
is absent instead. Secrets are masked on the way in.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from kamerton.errors import Fault, UserError
from kamerton.files import load_yaml
from kamerton.mask import masked
from kamerton.monitor.series import read_table
from kamerton.report.charts import Curves
from kamerton.score.baselines import NAMES, table_path
from kamerton.score.table import read_scores


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What one run directory holds; `absent` says for each missing part (by file name) why it is missing.

    `baselines` are score tables by name (`kamerton.score.baselines`).
    """

    path: Path
    record: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    curves: Curves = field(default_factory=list)
    tuned: pa.Table | None = None
    base: pa.Table | None = None
    baselines: dict[str, pa.Table] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    scored: str = "test"

    @property
    def no_scores(self) -> str:
        """Why `tuned` is None."""
        return self.absent.get(f"scores/{self.scored}.parquet", "")


def read_run(path: Path, scored: str = "test") -> RunFiles:
    """Everything the report needs from the run directory at `path`; raises `UserError` when there is none.

    `scored` names the score table of the tuned model; of a cross-validation, that of all folds.
    """
    if not path.is_dir():
        fault = Fault("run.not_found", f"{path} is not a directory", "name the run directory, e.g. outputs/trec/ab12")
        raise UserError([fault])
    absent: dict[str, str] = {}

    def part(name: str, parse: Callable[[Path], Any], empty: Any) -> Any:
        file = path / name
        if not file.is_file():
            absent[name] = f"the file {name} was not written"
            return empty
        try:
            return parse(file)
        except UserError as error:
            absent[name] = f"the file {name} cannot be read ({'; '.join(fault.message for fault in error.faults)})"
            return empty
        except Exception as error:  # any damage to any file: the report goes on and says so
            absent[name] = f"the file {name} cannot be read ({type(error).__name__}: {error})"
            return empty

    events, torn = part("events.jsonl", _events, ([], 0))
    if torn:
        absent["events.jsonl"] = f"{torn} line{'s' if torn > 1 else ''} of events.jsonl cannot be read"
    return RunFiles(
        path=path,
        record=masked(part("run.json", _mapping_json, {}), prose=True),
        config=masked(part("config.yaml", _mapping_yaml, {})),
        overrides=masked(part("overrides.yaml", _texts_yaml, []), prose=True),
        events=masked(events, prose=True),
        curves=part("metrics.csv", _curves, []),
        tuned=part(f"scores/{scored}.parquet", read_scores, None),
        base=part("scores/base.parquet", read_scores, None),
        baselines={
            name: table
            for name in NAMES
            if table_path(path, name).exists()
            and (table := part(f"scores/baselines/{name}.parquet", read_scores, None))
        },
        absent=absent,
        scored=scored,
    )


def _mapping_json(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text("utf-8")))


def _mapping_yaml(file: Path) -> dict[str, Any]:
    return dict(load_yaml(file.read_text("utf-8")) or {})


def _texts_yaml(file: Path) -> list[str]:
    return [str(item) for item in load_yaml(file.read_text("utf-8")) or []]


def _events(file: Path) -> tuple[list[dict[str, Any]], int]:
    """The events, and how many lines are torn (a killed run may leave one)."""
    events, torn = [], 0
    for line in filter(str.strip, file.read_text("utf-8", errors="replace").split("\n")):
        try:
            events.append(dict(json.loads(line)))
        except ValueError:
            torn += 1
    return events, torn


def _curves(file: Path) -> Curves:
    """The rows of metrics.csv with the cells that are filled with numbers."""
    with suppress(ValueError):  # other cells are there, too
        if len(rows := read_table(file)):
            return rows
    with file.open(newline="", encoding="utf-8") as lines:
        return [{key: float(cell) for key, cell in row.items() if _is_number(cell)} for row in csv.DictReader(lines)]


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True
