"""What to know about a test set before its numbers: its faults, rows that were left out, labels not detected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from kamerton.data.check.labels import MIN_ROWS_PER_LABEL
from kamerton.data.data_report import DataReport
from kamerton.data.options import DataOptions
from kamerton.data.store import Examples
from kamerton.data.summary import data_losses
from kamerton.errors import Fault
from kamerton.shell import setting

_MAX_NAMED = 20
_MAX_LENGTH = 40  # characters; longer completions are rather free text


def few_for_labels(examples: Examples, options: DataOptions) -> str | None:
    """Return the setting to add if completions look like labels, but there are too few rows to detect that.

    They do if they are short, at most 20 are different, and one at least is repeated. None with preferences, and if
    `data.labels` decides.
    """
    if options.labels != "auto" or options.rows != "completions":
        return None
    counts = Counter(examples.completions.to_pylist())
    is_label_like = all(text and len(text) <= _MAX_LENGTH and "\n" not in text for text in counts)
    if not is_label_like or not 2 <= len(counts) <= min(_MAX_NAMED, len(examples) - 1):
        return None
    if len(examples) >= MIN_ROWS_PER_LABEL * len(counts):  # something else made them free text, such as plain text
        return None
    named = setting("data.labels", sorted(counts))
    return (
        f"{len(examples):,} rows are too few to take their {len(counts)} different completions for labels, so there is "
        f"no accuracy: add {named} (all labels that the model may answer)"
    )


def left_out(report: DataReport) -> str | None:
    """Return which rows of a test file are not scored, or not as they are, with the number that was read."""
    losses = "; ".join(f"{name} {text}" for name, text in data_losses(report))
    return f"{report.counts['rows read']:,} rows read; {losses}" if losses else None


def of_test_file(faults: Iterable[Fault]) -> list[Fault]:
    """Return the faults of a single test file, which is read as `data.train`, as faults of `data.test`."""
    names = ("data.train", "data.test")
    return [
        replace(
            fault,
            column=None if fault.column is None else fault.column.replace(*names),
            message=fault.message.replace(*names),
            fix=fault.fix.replace(*names),
        )
        for fault in faults
    ]
