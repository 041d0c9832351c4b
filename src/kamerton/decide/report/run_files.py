"""Read a run directory as plain values, and report why files are missing.

Runs stop early and disks fill up, so missing or damaged files raise no error; the report names them instead. Secrets
are masked on reading.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from kamerton.errors import Fault, UserError
from kamerton.files import load_yaml
from kamerton.mask import masked
from kamerton.monitor.series import read_table
from kamerton.report.charts import Curves
from kamerton.run.record import Record, State, parse_record
from kamerton.score.baselines import NAMES, table_path
from kamerton.score.table import read_scores
from kamerton.shell import command_line


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The contents of a run directory; `absent` has the reason for each missing or unreadable file, by file name.

    `record` is `run.json`, and `values` the same as plain values. `baselines` are score tables by
    name (`kamerton.score.baselines`). `task` and `task_base` are those of the test set `score.data`, if there is one.
    """

    path: Path
    record: Record = field(default_factory=Record)
    values: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    curves: Curves = field(default_factory=list)
    tuned: pa.Table | None = None
    base: pa.Table | None = None
    baselines: dict[str, pa.Table] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    scored: str = "test"
    scored_base: str = "base"
    task: pa.Table | None = None
    task_base: pa.Table | None = None

    def on_task(self) -> RunFiles | None:
        """Return the same with the score tables of the test set `score.data`; None if it was not scored."""
        if self.task is None:
            return None
        return replace(
            self, tuned=self.task, base=self.task_base, scored="task", scored_base="task_base", baselines={}, task=None
        )

    @property
    def no_scores(self) -> str:
        """The reason why `tuned` is None."""
        return self.absent.get(f"scores/{self.scored}.parquet", "")


def read_run(path: Path, scored: str = "test", state: State | None = None) -> RunFiles:
    """Read what the report needs from the run directory at `path`; raises `UserError` if there is no such directory.

    `scored` names the score table of the tuned model; a cross-validation has one of all folds. `state` is the
    run's state if its record does not have it yet.
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
        except Exception as error:  # any damage to any file: the report names it and continues
            absent[name] = f"the file {name} cannot be read ({type(error).__name__}: {error})"
            return empty

    events, torn = part("events.jsonl", _events, ([], 0))
    if torn:
        absent["events.jsonl"] = f"{torn} line{'s' if torn > 1 else ''} of events.jsonl cannot be read"
    record, values = part("run.json", _record, (Record(), {}))
    if state is not None:
        record = record.model_copy(update={"state": state})
    return RunFiles(
        path=path,
        record=record,
        values=values,
        config=masked(part("config.yaml", lambda file: dict(load_yaml(file.read_text("utf-8")) or {}), {})),
        overrides=masked(
            part("overrides.yaml", lambda file: [str(item) for item in load_yaml(file.read_text("utf-8")) or []], []),
            prose=True,
        ),
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
        task=_optional(path, "task"),
        task_base=_optional(path, "task_base"),
    )


def _optional(path: Path, name: str) -> pa.Table | None:
    """Return a score table that few runs have; None if it is missing or damaged."""
    try:
        return read_scores(path / "scores" / f"{name}.parquet")
    except (UserError, OSError, ValueError):
        return None


def _record(file: Path) -> tuple[Record, dict[str, Any]]:
    values = masked(dict(json.loads(file.read_text("utf-8"))), prose=True)
    return parse_record(values), values


def _events(file: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the events and the number of incomplete lines; a killed run may leave one."""
    events, torn = [], 0
    for line in filter(str.strip, file.read_text("utf-8", errors="replace").split("\n")):
        try:
            events.append(dict(json.loads(line)))
        except ValueError:
            torn += 1
    return events, torn


def _curves(file: Path) -> Curves:
    """Return the rows of metrics.csv with their numeric cells."""
    with suppress(ValueError):  # some cells are not numbers
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


def configuration(run: RunFiles) -> dict[str, str | None]:
    """Return the command and the resolved configuration as texts; None if unknown."""
    return {
        "command": None if "overrides.yaml" in run.absent else command_line("train", *run.overrides),
        "config": yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True) if run.config else None,
    }
