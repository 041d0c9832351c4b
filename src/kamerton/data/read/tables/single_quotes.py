"""Tables whose fields are enclosed in single quotes, told from texts with apostrophes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MIN_RECORDS = 3  # below the header
MAX_LINES = 1000


@dataclass(frozen=True, slots=True)
class _Cell:
    """A field as it is written; `is_enclosed` in single quotes."""

    text: str
    is_enclosed: bool


def is_single_quoted(lines: Sequence[str], delimiter: str, *, is_consistent: bool) -> bool:
    """Return whether the fields of a table are enclosed in single quotes.

    `is_consistent`: its records have the same number of fields if single quotes are ordinary characters. All texts of
    two columns, or of one and its header, are enclosed then, or quotes within them are doubled; English has no such
    texts. In other tables single quotes have to give each record the same number of fields, and enclose all texts of a
    column, or all that have an apostrophe.
    """
    if not any(re.match(f"'|.*{re.escape(delimiter)}'", line) for line in lines[:MAX_LINES]):
        return False
    header, *records = _records("".join(lines[:MAX_LINES]), delimiter)
    if len(records) < MIN_RECORDS or len(header) < 2 or any(len(record) != len(header) for record in records):
        return False
    whole = [column for column in range(len(header)) if _is_whole([record[column] for record in records])]
    cells = [cell for record in records for cell in record]
    if is_consistent:
        is_doubled = any("''" in cell.text[1:-1] for cell in cells if cell.is_enclosed)
        has_header = any(header[column].is_enclosed for column in whole)
        return len(whole) > 1 or (len(whole) == 1 and (has_header or is_doubled))
    holds_sign = any(cell.is_enclosed and re.search(f"[{re.escape(delimiter)}\r\n]", cell.text) for cell in cells)
    return holds_sign and (bool(whole) or not any("'" in cell.text for cell in cells if not cell.is_enclosed))


def _records(text: str, delimiter: str) -> list[list[_Cell]]:
    """Divide a text into records; the last one, which may be incomplete, is left out if there are enough."""
    sign = re.escape(delimiter)
    cell = re.compile(rf"(?P<enclosed>'(?:[^']|'')*+')(?=[{sign}\r\n]|\Z)|[^{sign}\r\n]*")
    records: list[list[_Cell]] = [[]]
    position = 0
    while position < len(text):
        match = cell.match(text, position)
        assert match is not None  # the second alternative matches anything
        records[-1].append(_Cell(match[0], match["enclosed"] is not None))
        position = match.end() + 1
        if text[match.end() : position] != delimiter:
            position += text[match.end() : match.end() + 2] == "\r\n"
            records.append([])
        elif position == len(text):
            records[-1].append(_Cell("", is_enclosed=False))
    filled = [record for record in records if len(record) > 1 or (record and record[0].text.strip())]
    return filled[:-1] if len(filled) > MIN_RECORDS + 1 else filled or [[]]


def _is_whole(cells: Sequence[_Cell]) -> bool:
    """Return whether all cells of a column that are not blank are enclosed, most of them filled."""
    filled = [cell for cell in cells if cell.text.strip()]
    return len(filled) > len(cells) / 2 and all(cell.is_enclosed for cell in filled)
