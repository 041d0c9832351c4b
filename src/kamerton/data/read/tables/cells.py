"""JSON texts in the cells of tables and Parquet files: chat turns and choices become lists, as in JSON files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kamerton.data.options import Columns
from kamerton.data.read.columns.schema import CHAT_NAMES, COMPLETION_NAMES, PROMPT_NAMES
from kamerton.data.read.nested import parse_cell
from kamerton.errors import Fault

Rows = Iterator[tuple[int, dict[str, Any] | Fault]]
TURNS = CHAT_NAMES  # columns that always hold turns
PREFERENCES = ("chosen", "rejected")  # turns or texts
VALUES = ("choices", "options")  # columns that may also hold text


def parsed_cells(rows: Rows, columns: Columns, file: str) -> Rows:
    """Yield the rows with parsed cells; a row whose turns cannot be parsed is a fault."""
    names: tuple[str, ...] | None = None  # those of the columns that may hold JSON
    turns = {*TURNS, *([columns.messages] if columns.messages else [])}
    for number, record in rows:
        if isinstance(record, Fault):
            yield number, record
            continue
        if names is None:
            usual = {*turns, *PREFERENCES, *VALUES, *PROMPT_NAMES, *COMPLETION_NAMES}
            names = tuple(name for name in record if name in usual)
        fault = None
        for name in names:
            value = record[name]
            if isinstance(value, dict) and name in (*turns, *PREFERENCES):
                record[name] = _turns_of_lists(value)
            if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
                continue
            parsed = parse_cell(value)
            if parsed is None and name in turns:
                message = f"{name} is text that begins like a list, and is neither JSON nor a Python list"
                fault = Fault("bad-json", message, "write it with json.dumps", file, column=name)
            elif parsed is not None and (name in turns or name in VALUES or _are_turns(parsed)):
                record[name] = parsed
        yield number, fault or record


def _turns_of_lists(value: dict[str, Any]) -> Any:
    """Return the turns of an object with a list for each of their fields, as `datasets` stores lists of objects."""
    lists = [*value.values()]
    if not lists or not all(isinstance(items, list) and len(items) == len(lists[0]) for items in lists):
        return value
    return [dict(zip(value, items, strict=True)) for items in zip(*lists, strict=True)]


def _are_turns(value: object) -> bool:
    """Return whether the value is a list of chat turns."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, Mapping) and ("role" in turn or "from" in turn) for turn in value)
    )
