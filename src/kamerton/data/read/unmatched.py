"""Rows whose columns fit no schema: kept until the file has been read, when the schema of its other rows is known."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kamerton.data.data_file import DataFile
from kamerton.data.faults import FaultLog
from kamerton.data.options import COMPARED
from kamerton.data.read.columns import unused
from kamerton.data.read.columns.constant import Records, constant_columns, without_columns
from kamerton.data.read.columns.kinds import snake_case
from kamerton.data.read.columns.layout import Layout, list_columns, unknown_column_fault
from kamerton.data.read.columns.schema import PROMPT_NAMES, missing_everywhere
from kamerton.data.read.reading import misleading_action
from kamerton.data.read.tables.header import header_setting, is_usual, propose_names
from kamerton.errors import Fault

Names = tuple[str, ...]
Record = Mapping[str, Any]


class Unmatched:
    """The rows of a file without a schema, by their columns and their fault."""

    def __init__(self, file: DataFile, log: FaultLog) -> None:
        self._file, self._log, self._name = file, log, file.name
        self._samples: dict[Names, Record] = {}  # the first row of each set of columns
        self._rows: dict[tuple[Names, str], tuple[Fault, array[int]]] = {}

    def add(self, record: Record, fault: Fault, row: int) -> None:
        """Keep a row with its fault."""
        names = tuple(record)
        self._samples.setdefault(names, record)
        self._rows.setdefault((names, fault.message), (fault, array("q")))[1].append(row)

    def report(self, layouts: Sequence[Layout], head: Sequence[Record], records: Records) -> None:
        """Report the rows; `layouts` are those of the other rows, `head` the first rows of the file.

        `records` yields all rows of the data.
        """
        total = sum(len(rows) for _, rows in self._rows.values())
        reported = set()
        for (names, _), (fault, rows) in sorted(self._rows.items(), key=lambda item: -len(item[1][1])):
            if fault.code == unused.CODE:
                message = f"{fault.message} ({len(rows):,} row{'s' if len(rows) > 1 else ''})"
                fault = replace(fault, message=message, file=self._name, row=rows[0])
                self._log.add(fault, misleading_action(self._log.policy))
            elif not layouts and (fault.code == "unknown-column" or total > 1):
                if fault.column not in reported:
                    reported.add(fault.column)
                    sample = self._samples[names]
                    if self._file.form.rows not in COMPARED:
                        fault = self._proposed(fault, head or [sample], records)
                    fix = fault.fix + (self._without_header(sample) if fault.code != "unclear-columns" else "")
                    fault = replace(fault, fix=fix)
                    self._log.add(replace(fault, file=self._name))
            else:
                self._report_missing(fault, names, rows, layouts)
                continue
            for row in rows:
                self._log.reject(self._name, row, fault.code)

    def _proposed(self, fault: Fault, head: Sequence[Record], records: Records) -> Fault:
        """Return the fault with the settings that read the columns, constant ones only if there are no others."""
        columns = self._file.columns
        names = {name for record in head for name in record}
        constant = constant_columns(names, head, records)
        constant = constant if constant < names else set()  # one row, repeated
        answers = {name for name in constant if snake_case(name) not in PROMPT_NAMES}
        ways = [missing_everywhere(fault, without_columns(head, names), columns) for names in (constant, answers)]
        found = [way for way in ways if way.fix != fault.fix]
        pairs = [way for way in found if "data.columns.text=" not in way.fix]  # an instruction may be constant
        return next(iter(pairs or found), missing_everywhere(fault, head, columns))

    def _without_header(self, sample: Record) -> str:
        """Return what else could be done about missing columns if the first line of a table was data."""
        if self._file.format != "csv" or self._file.header is not None or any(map(is_usual, sample)):
            return ""
        names = propose_names([list(sample), list(map(str, sample.values()))])
        return f" or, if the first line is data: {header_setting(names)}"

    def _report_missing(self, fault: Fault, names: Names, rows: Sequence[int], layouts: Sequence[Layout]) -> None:
        """Report each of the rows with these columns, which lack a field of the other rows."""
        if fault.code == "unknown-column":
            message = f"the row has no {fault.column} ({list_columns(list(names))})"
            fault = Fault("missing-field", message, f"add {fault.column}, or remove the row", column=fault.column)
        message = fault.message + (f"; the other rows are {layouts[0].schema}" if layouts else "")
        for row in rows:
            self._log.add_row([replace(fault, message=message, file=self._name, row=row)])


def report_unknown_metadata(file: DataFile, layouts: Mapping[Names, Any], log: FaultLog) -> None:
    """Report the configured metadata columns that no row has; `layouts` are by the columns of the rows."""
    present = sorted({name for names in layouts for name in names})
    for name in (file.columns.metadata or []) if layouts else []:
        if name not in present:
            log.add(replace(unknown_column_fault(name, present, "data.columns.metadata"), file=file.name))
