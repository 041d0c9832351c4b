"""Rows with one completion and a score of it (HelpSteer2): those of one prompt in a row are read as one ranking."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from typing import Any

from kamerton.data.options import Columns
from kamerton.data.read.columns.formats import CHOSEN, PROMPTS, REJECTED
from kamerton.data.read.preferences.compared import find_pair
from kamerton.data.read.preferences.forms import JUDGED, LISTS
from kamerton.data.read.preferences.numbers import find_number, to_number
from kamerton.data.read.preferences.sides import FURTHER_PROMPTS, find_column
from kamerton.errors import Fault

COMPLETIONS = ("completion", "response", "answer", "output", "generation", "reply")
SEVERAL = 20  # first rows, the first readable one of which shows the columns
Row = tuple[int, Any]


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of a prompt, of its completion and of the score."""

    prompt: str
    completion: str
    score: str


def join_scored(rows: Iterable[Row], columns: Columns, note: Callable[[str], None]) -> Iterator[Row]:
    """Yield the rows of a file, consecutive ones with a scored completion of one prompt as one row, a ranking.

    Its number is that of the first. A further column is a list if its values differ. Other rows are unchanged.
    """
    rows = iter(rows)
    first = list(islice(rows, SEVERAL))
    records = [record for _, record in first if not isinstance(record, Fault)]
    names = _scored_columns(records[0], columns) if records else None
    if names is None or not any(_alike(*two, names.prompt) for two in pairwise(records)):
        yield from chain(first, rows)
        return
    note(f"consecutive rows with one {names.prompt} are compared by {names.score}")
    group: list[Mapping[str, Any]] = []
    number = 0
    for row, record in chain(first, rows):
        if group and (isinstance(record, Fault) or not _alike(group[0], record, names.prompt)):
            yield number, _joined(group, names)
            group = []
        if isinstance(record, Fault) or set(record) != set(records[0]):
            yield row, record
            continue
        number = number if group else row
        group.append(record)
    if group:
        yield number, _joined(group, names)


def _alike(record: Mapping[str, Any], other: Mapping[str, Any], prompt: str) -> bool:
    """Return whether two rows have the same columns and prompt."""
    return set(record) == set(other) and prompt in record and record[prompt] == other[prompt]


def _scored_columns(record: Mapping[str, Any], columns: Columns) -> _Columns | None:
    """Return the columns of a scored completion; None if the row is in another form."""
    if columns.chosen or columns.rejected or find_column(record, (*CHOSEN, *REJECTED, *LISTS)) or find_pair(record):
        return None
    score = columns.label or (None if find_column(record, JUDGED) else find_number(record))
    completion = columns.completion or find_column(record, COMPLETIONS)
    rest = {name: value for name, value in record.items() if name not in (score, completion)}
    prompt = columns.prompt or find_column(rest, (*PROMPTS, *FURTHER_PROMPTS))
    if score is None or completion is None or prompt is None or to_number(record.get(score)) is None:
        return None
    return _Columns(prompt, completion, score)


def _joined(rows: list[Mapping[str, Any]], names: _Columns) -> dict[str, Any]:
    """Return the rows of one prompt as one."""
    read = (names.prompt, names.completion, names.score)
    others = {name: [row[name] for row in rows] for name in rows[0] if name not in read}
    return {
        names.prompt: rows[0][names.prompt],
        "completions": [row[names.completion] for row in rows],
        names.score: [row[names.score] for row in rows],
        **{
            name: values[0] if all(value == values[0] for value in values) else values
            for name, values in others.items()
        },
    }
