"""Validating a data set and reading its examples, from Python."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kamerton.data.example import DataExample
from kamerton.data.faults import FaultLog
from kamerton.data.gate import DataError, prepare
from kamerton.data.option_checks import check_data_options, check_split_options
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.data.read.answerless import answered_files
from kamerton.data.read.ingest import ingest
from kamerton.data.read.reading import Reading, report_unused
from kamerton.data.read.sources import find_files
from kamerton.data.stored import to_example
from kamerton.errors import Fault


@dataclass(frozen=True)
class ValidationResult:
    """The result of a check of data, or of a model's answers.

    Args:
        errors: faults that make the data unusable.
        warnings: faults that do not.
        report: counts and more, also if there are errors.

    Example:
        >>> from kamerton import DataOptions, validate
        >>> result = validate(DataOptions(path="missing.jsonl"))
        >>> result.is_valid, [fault.code for fault in result.errors]
        (False, ['missing-file'])
    """

    errors: list[Fault]
    warnings: list[Fault]
    report: dict[str, Any]

    @property
    def is_valid(self) -> bool:
        return not self.errors


def validate(options: DataOptions, split: SplitOptions | None = None, *, cache: Path | None = None) -> ValidationResult:
    """Check a data set and its settings; raises nothing.

    Args:
        options: the data.
        split: how they are split; by default 70, 15 and 15 %.
        cache: a folder that keeps rows between calls; by default a temporary one.

    Returns:
        A `ValidationResult` with every error and warning.

    Example:
        >>> from kamerton import DataOptions, validate
        >>> result = validate(DataOptions(path="questions.jsonl"))
        >>> result.is_valid, result.report["counts"]["rows read"]
        (True, 120)
    """
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
    return ValidationResult([], prepared.facts.faults, prepared.report)


def read_examples(options: DataOptions) -> Iterator[DataExample]:
    """Read examples one by one; nothing is held in memory.

    Args:
        options: the data. Rows are checked alone, not compared with each other.

    Returns:
        An iterator over `DataExample`.

    Raises:
        UserError: at the end, with all faults of the rows.

    Example:
        >>> from kamerton import DataOptions, read_examples
        >>> first = next(read_examples(DataOptions(path="questions.jsonl")))
        >>> first.prompt, first.completion
        ('the cat number 0', 'yes')
    """
    files, faults = find_files(options)
    log = FaultLog(options.policy)
    for fault in faults:
        log.add(fault)
    log.raise_errors()
    files, unanswered = answered_files(files, options)
    for fault in unanswered:
        log.add(fault)
    log.raise_errors()
    reading = Reading()
    for _, prompt, chat, completion, extras, metadata, *_ in ingest(files, log, reading):
        yield to_example(prompt, chat, completion, metadata, extras)
    report_unused(reading, (), log)
    log.raise_errors()
