"""Rows whose column names their split: reported if they are split anew, or if their file has another split."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping
from typing import Any

from kamerton.data.data_file import DataFile
from kamerton.data.read.locations.archives import SPLIT_NAMES
from kamerton.errors import Fault
from kamerton.shell import new_name, setting

COLUMNS = ("split", "partition", "split_name")
NAMES = {**SPLIT_NAMES, "evaluation": "validation"}


class SplitColumn:
    """Counts the rows of a file by the value in a column that names splits."""

    def __init__(self) -> None:
        self._values: Counter[tuple[str, str]] = Counter()  # column and value

    def add(self, record: Mapping[str, Any]) -> None:
        """Count a row."""
        for column in COLUMNS:
            if column in record and isinstance(value := record[column], str) and value.lower() in NAMES:
                self._values[column, value] += 1

    def fault(self, file: DataFile) -> Fault | None:
        """Return the warning of a file that is split anew, if a column names several splits; else None.

        For a file whose split is given it is that of rows whose column names another one.
        """
        column = next((column for column, _ in self._values), "")
        values = {value: count for (name, value), count in self._values.items() if name == column}
        values_of: dict[str, list[str]] = {}  # by split
        for value in values:
            values_of.setdefault(NAMES[value.lower()], []).append(value)
        if file.split is not None:
            others = {value: count for value, count in values.items() if NAMES[value.lower()] != file.split}
            message = (
                f"the column {column} names other splits ({_counts(others)}), and the rows are those of {file.split}"
            )
            fix = "nothing, if that is intended; else move them to the file of their split"
            return Fault("split-names", message, fix, file.name, column=column, severity="warning") if others else None
        if len(values_of) < 2:
            return None
        message = f"the column {column} names splits ({_counts(values)}), and the rows are split anew"
        fix = "write the rows of each into a file of its own, and give these as data.train, data.validation, data.test"
        if file.format == "jsonl" and not file.member and file.path.suffix in (".jsonl", ".ndjson"):
            names = {split: new_name(file.path, f"-{split}.jsonl") for split in values_of}
            tests = {
                split: " or ".join(f".{column} == {json.dumps(value)}" for value in own)
                for split, own in values_of.items()
            }
            commands = (
                f"jq -c {shlex.quote(f'select({tests[split]})')} {shlex.quote(str(file.path))} > {name}"
                for split, name in names.items()
            )
            settings = " ".join(setting(f"data.{split}", name) for split, name in names.items())
            fix = f"to keep them: {'; '.join(commands)}; then, in place of the path, {settings}"
        return Fault("split-names", message, fix, file.name, column=column, severity="warning")


def _counts(values: Mapping[str, int]) -> str:
    return ", ".join(f"{value}: {count:,} row{'s' if count > 1 else ''}" for value, count in values.items())
