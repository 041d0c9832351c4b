"""Asking the data gate from Python: is this data set usable, and what are its examples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kamerton.data.example import DataExample
from kamerton.data.faults import FaultLog
from kamerton.data.gate import DataError, prepare
from kamerton.data.options import DataOptions, SplitOptions, check_data_options, check_split_options
from kamerton.data.read.ingest import Reading, ingest, report_unused
from kamerton.data.read.sources import find_files
from kamerton.data.store import to_example
from kamerton.errors import Fault


@dataclass(frozen=True)
class ValidationResult:
    """What the gate says of a data set: `is_valid` if it can be used as it is; `report` is the data report anyway."""

    errors: list[Fault]
    warnings: list[Fault]
    report: dict[str, Any]

    @property
    def is_valid(self) -> bool:
        return not self.errors


def validate(options: DataOptions, split: SplitOptions | None = None, *, cache: Path | None = None) -> ValidationResult:
    """Everything that is wrong with a data set and its settings, without an exception."""
    split = split or SplitOptions()
    faults = [*check_data_options(options), *check_split_options(split)]
    if faults:
        return ValidationResult(faults, [], {})
    try:
        prepared = prepare(options, split, cache=cache)
    except DataError as error:
        errors = [fault for fault in error.faults if fault.severity == "error"]
        warnings = [fault for fault in error.faults if fault.severity == "warning"]
        return ValidationResult(errors, warnings, error.report)
    return ValidationResult([], [Fault(**fault) for fault in prepared.report["faults"]], prepared.report)


def read_examples(options: DataOptions) -> Iterator[DataExample]:
    """The examples of the files, one by one as they are read; raises `UserError` at the end if rows had faults."""
    files, faults = find_files(options)
    log = FaultLog(options.policy)
    for fault in faults:
        log.add(fault)
    log.raise_errors()
    reading = Reading()
    for _, prompt, chat, completion, metadata, *_ in ingest(files, log, reading):
        yield to_example(prompt, chat, completion, metadata)
    report_unused(reading, (), log)
    log.raise_errors()
