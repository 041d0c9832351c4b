"""Rows of a sheet of a workbook (Excel, LibreOffice)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from kamerton.data.data_file import DataFile
from kamerton.data.read.tables.header import MAX_ABOVE, title_fault
from kamerton.errors import Fault
from kamerton.shell import setting

Row = tuple[int, dict[str, Any] | Fault]


def sheet_rows(source: Path | IO[bytes], file: DataFile, note: Callable[[str], None]) -> Iterator[Row]:
    """Yield `(row of the sheet, fields)`, the first row that is not empty being the header; 0 stands for the file."""
    try:
        from python_calamine import CalamineError, CalamineWorkbook
    except ImportError:
        fix = "pip install 'kamerton[xlsx]', or save it as CSV UTF-8"
        yield 0, Fault("unreadable-file", "workbooks need the package python-calamine", fix, file.name)
        return
    try:
        book = CalamineWorkbook.from_object(str(source) if isinstance(source, Path) else source)
        sheets = {name: list(_filled_rows(book.get_sheet_by_name(name))) for name in _wanted(book, file)}
    except CalamineError as error:
        reason = f"the workbook cannot be opened: {error}"
        yield 0, Fault("unreadable-file", reason, "save it again without a password, or as CSV UTF-8", file.name)
        return
    filled = {name: rows for name, rows in sheets.items() if len(rows) > 1}
    if file.records and not sheets:
        fix = " or ".join(setting("data.records", name) for name in book.sheet_names)
        yield 0, Fault("unreadable-file", f"the workbook has no sheet {file.records!r}", fix, file.name)
    elif len(filled) > 1:
        counted = ", ".join(f"{name!r} ({len(rows) - 1:,} rows)" for name, rows in filled.items())
        fix = " or ".join(setting("data.records", name) for name in filled)
        yield (
            0,
            Fault("unreadable-file", f"the workbook has several sheets: {counted}", f"choose one: {fix}", file.name),
        )
    elif filled:
        ((name, rows),) = filled.items()
        note(f"workbook, sheet {name!r}")
        yield from _records(rows, file)


def _wanted(book: Any, file: DataFile) -> list[str]:
    names = list(book.sheet_names)
    return [name for name in names if name == file.records] if file.records else names


def _filled_rows(sheet: Any) -> Iterator[tuple[int, list[Any]]]:
    """Yield the rows of a sheet that are not empty, with their numbers; empty cells are None."""
    if sheet.height == 0:
        return
    for number, cells in enumerate(sheet.to_python(skip_empty_area=False), 1):
        values = [_plain(cell) for cell in cells]
        if any(value is not None for value in values):
            yield number, values


def _plain(cell: Any) -> Any:
    """Return a cell's value: whole numbers as int, which sheets store as floats, and None for an empty cell."""
    if cell == "":
        return None
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell


def _records(rows: list[tuple[int, list[Any]]], file: DataFile) -> Iterator[Row]:
    rows = [(number, values) for number, values in rows if number > file.lines_above]
    texts = [(number, ["" if cell is None else str(cell) for cell in values]) for number, values in rows[:MAX_ABOVE]]
    fault = title_fault(texts, file.name) if file.header is None else None
    if fault is not None or not rows:
        yield 0, fault or Fault("missing-header", f"there is no row {file.header}", "correct data.header", file.name)
        return
    cells = [None if cell is None else str(cell).strip() for cell in rows[0][1]]
    used = [column for column in range(len(cells)) if any(values[column] is not None for _, values in rows)]
    names = {column: cells[column] or f"column {column + 1}" for column in used}
    repeated = next((name for name, count in Counter(names.values()).items() if count > 1), None)
    if repeated is not None:
        yield (
            0,
            Fault("duplicate-column", f"two columns are named {repeated!r}", "rename one", file.name, column=repeated),
        )
        return
    for number, values in rows[1:]:
        yield number, {name: values[column] for column, name in names.items()}
