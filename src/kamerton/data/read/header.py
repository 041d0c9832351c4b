"""The header of a table: whether its first line names the columns, and names for columns without one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from kamerton.data.options import Columns
from kamerton.data.read.kinds import BOOKKEEPING, INPUTS, KIND_OF, snake_case
from kamerton.data.read.schema import CHAT_NAMES, COMPLETION_NAMES, PROMPT_NAMES

Record = Sequence[str]
SENTENCE = 5  # words
LONG = 60  # characters
USUAL = {*PROMPT_NAMES, *COMPLETION_NAMES, *CHAT_NAMES, *KIND_OF, *INPUTS, "sentiment", "title", "summary"}
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)*")


@dataclass(frozen=True, slots=True)
class _Content:
    """Statistics of a column: the average number of characters and words, and its different values."""

    characters: float
    words: float
    values: tuple[str, ...]
    rows: int

    @property
    def is_text(self) -> bool:
        return self.words >= 3 and self.characters >= 15 and len(self.values) > self.rows / 2

    @property
    def is_label(self) -> bool:
        return 1 < len(self.values) <= max(2, self.rows / 3) and self.words <= 4

    @property
    def is_counter(self) -> bool:
        return len(self.values) == self.rows > 1 and all(value.isdecimal() for value in self.values)


def data_signs(header: Record, rows: Sequence[Record], columns: Columns) -> list[str]:
    """Return why the first line of a table looks like data; nothing if it looks like a header.

    A cell is a sign if it is a sentence or JSON, a number above numbers, or a value that occurs below. Usual names of
    columns, and configured ones, speak against it.
    """
    configured = [name for name in astuple(columns) if isinstance(name, str)]
    if any(cell in configured for cell in header) or list(header) in [list(row) for row in rows]:
        return []
    signs = []
    for place, cell in enumerate(map(str.strip, header)):
        below = [row[place].strip() for row in rows if len(row) > place]
        numbers = sum(map(bool, map(_NUMBER.fullmatch, below)))
        if len(cell.split()) >= SENTENCE or len(cell) > LONG:
            signs.append(f"{cell[:40]!r} is a sentence" if len(cell) <= 40 else f"{cell[:40] + '…'!r} is a text")
        elif cell.startswith(("[", "{")):
            signs.append(f"{cell[:40]!r} is JSON")
        elif _NUMBER.fullmatch(cell) and below and numbers > len(below) / 2:
            signs.append(f"{cell!r} is a number")
        elif cell and below.count(cell) > len(below) / 100:
            signs.append(f"{cell!r} occurs again below")
    usual = sum(_is_usual(cell) for cell in header)
    return signs if len(signs) > usual else []


def _is_usual(cell: str) -> bool:
    name = snake_case(cell)
    return name in USUAL or (len(cell.split()) < SENTENCE and bool(set(name.split("_")) & BOOKKEEPING))


def propose_names(records: Sequence[Record]) -> list[str]:
    """Return names for the columns of these records, by their contents."""
    width = len(records[0])
    contents = [_content([record[column] for record in records if len(record) == width]) for column in range(width)]
    letters = "ABCDEFGHIJ"[: max(width - 2, 0)]
    if len(letters) > 1 and all(value in letters for value in contents[-1].values):
        return ["question", *letters, "answer"]
    if width == 1:
        return ["text"]
    names = {place: "id" for place, content in enumerate(contents[:1]) if content.is_counter and width > 2}
    labels = [place for place, content in enumerate(contents) if content.is_label and place not in names]
    if labels:
        names[labels[-1]] = "label"
    texts = [place for place, content in enumerate(contents) if content.is_text and place not in names]
    if width - len(names) == 1 or len(texts) == 1:
        rest = texts or [place for place in range(width) if place not in names]
        names[rest[0]] = "text"
    if not labels:
        rest = texts if len(texts) > 1 else [place for place in range(width) if place not in names or place in texts]
        names |= dict(zip(rest[:2], ("prompt", "completion"), strict=False))
    elif len(texts) == 2:
        first, second = (contents[place].characters for place in texts)
        names |= dict(zip(texts, ("title", "text") if first < second / 2 else ("sentence1", "sentence2"), strict=True))
    elif texts:
        names[max(texts, key=lambda place: contents[place].characters)] = "text"
    return [names.get(place, f"column{place + 1}") for place in range(width)]


def _content(cells: Sequence[str]) -> _Content:
    rows = max(len(cells), 1)
    words = sum(len(cell.split()) for cell in cells) / rows
    return _Content(sum(map(len, cells)) / rows, words, tuple(dict.fromkeys(cells)), len(cells))


def header_setting(names: Sequence[str]) -> str:
    """Return the setting that names the columns of a table without a header, for a shell."""
    return shlex.quote(f"data.header=[{','.join(names)}]")


def column_names(header: Record, rows: Sequence[Record]) -> tuple[list[str], list[str]]:
    """Return the names of the columns, and a note for each that the header does not name.

    An unnamed first column that counts the rows is `index`, another unnamed one `columnN`.
    """
    names, notes = [cell.strip() for cell in header], []
    for place, name in enumerate(names):
        if name:
            continue
        cells = [row[place] for row in rows if len(row) > place]
        is_index = place == 0 and bool(cells) and all(cell.strip().isdecimal() for cell in cells)
        names[place] = "index" if is_index and "index" not in names else f"column{place + 1}"
        if is_index:
            notes.append("an unnamed first column with numbers of rows, named index and not shown to the model")
        elif any(cells):
            notes.append(f"an unnamed column {place + 1}, named {names[place]}")
    return names, notes
