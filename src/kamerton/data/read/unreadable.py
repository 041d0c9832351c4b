"""Rows that could not be read: faults of their own, one fault for all rows in another encoding, or one of the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kamerton.data.data_file import DataFile
from kamerton.data.faults import FaultLog
from kamerton.data.read.files.containers import open_data
from kamerton.data.read.files.sniff import unreadable_file_faults
from kamerton.errors import Fault

MAX_ROWS = 1000  # a file without a readable row among its first rows is given up after these
FEW = 2  # up to this many unreadable rows are reported one by one
Row = tuple[int, Fault]


class Unreadable:
    """Reports the unreadable rows of a file; those in another encoding are counted until its end."""

    def __init__(self, file: DataFile, log: FaultLog) -> None:
        self._file, self._log = file, log
        self._undecodable: Fault | None = None  # of the first such row
        self._undecodable_rows = 0

    def report_rows(self, rows: Sequence[Row]) -> None:
        """Report rows one by one, or count those in another encoding."""
        for row, fault in rows:
            if fault.code != "undecodable-byte":
                self._log.add_row([replace(fault, row=row)])
                continue
            self._undecodable_rows += 1
            self._log.reject(self._file.name, row, fault.code)
            if self._undecodable is None:
                self._undecodable = replace(fault, row=row)

    def report_file(self, rows: Sequence[Row]) -> None:
        """Report a file without a readable row; `rows` are its first ones."""
        with open_data(self._file) as stream:
            line = stream.readline(10_000)
        encoding = "utf-8" if self._file.encoding == "auto" else self._file.encoding
        first = line.decode(encoding, "replace").strip()
        faults, all_read = [fault for _, fault in rows], len(rows) < MAX_ROWS
        for fault in unreadable_file_faults(faults, first, self._file, all_read=all_read):
            self._log.add(fault)
        for row, fault in rows:
            self._log.reject(self._file.name, row, fault.code)

    def report_undecodable(self, count: int) -> None:
        """Report the rows in another encoding as one fault; `count` is the number of all rows of the file."""
        fault, rows = self._undecodable, self._undecodable_rows
        if fault is not None:
            several = f" ({rows:,} of {count:,} rows)" if rows > 1 else ""
            self._log.add(replace(fault, message=fault.message + several))
