"""The header of a table: whether its first line names the columns, and names for columns without one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from kamerton.data.options import Columns
from kamerton.data.read.columns.kinds import BOOKKEEPING, INPUTS, KIND_OF, snake_case
from kamerton.data.read.columns.schema import CHAT_NAMES, COMPLETION_NAMES, PROMPT_NAMES
from kamerton.errors import Fault

Record = Sequence[str]
MAX_ABOVE = 6  # first lines, among which the header below a title is
SENTENCE = 5  # words
LONG = 60  # characters
CJK_SENTENCE = 8  # characters of Chinese and Japanese, which have no spaces
USUAL = {*PROMPT_NAMES, *COMPLETION_NAMES, *CHAT_NAMES, *KIND_OF, *INPUTS, "sentiment", "title", "summary"}
_CJK = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)*")


@dataclass(frozen=True, slots=True)
class _Content:
    """Statistics of a column: the average number of characters and words, the share of letters, its values."""

    characters: float
    words: float
    letters: float
    values: tuple[str, ...]  # different ones
    rows: int

    @property
    def is_text(self) -> bool:
        is_long = self.words >= 3 and self.characters >= 15
        return is_long and self.letters > 0.6 and len(self.values) > self.rows / 2

    @property
    def is_label(self) -> bool:
        return 1 < len(self.values) <= max(2, self.rows / 3) and self.words <= 4 and all(map(str.strip, self.values))

    @property
    def is_id(self) -> bool:
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
        if len(cell.split()) >= SENTENCE or len(cell) > LONG or len(_CJK.findall(cell)) >= CJK_SENTENCE:
            signs.append(f"{cell[:40]!r} is a sentence" if len(cell) <= 40 else f"{cell[:40] + '…'!r} is a text")
        elif cell.startswith(("[", "{")):
            signs.append(f"{cell[:40]!r} is JSON")
        elif _NUMBER.fullmatch(cell) and below and numbers > len(below) / 2:
            signs.append(f"{cell!r} is a number")
        elif cell and below.count(cell) > len(below) / 100:
            signs.append(f"{cell!r} occurs again below")
    usual = sum(is_usual(cell) for cell in header)
    return signs if len(signs) > usual else []


def is_usual(cell: str) -> bool:
    """Return whether a cell is the usual name of a column."""
    name = snake_case(cell)
    return name in USUAL or (len(cell.split()) < SENTENCE and bool(set(name.split("_")) & BOOKKEEPING))


def _may_be_name(cell: str) -> bool:
    return len(cell.split()) < SENTENCE and len(cell) <= LONG and not _NUMBER.fullmatch(cell)


def title_fault(records: Sequence[tuple[int, Record]], file: str) -> Fault | None:
    """Return the fault of a table whose first line has a title alone, above the line that names the columns.

    `records` are the first ones, each with its line.
    """
    title, *cells = records[0][1] if records else [""]
    if not title.strip() or any(map(str.strip, cells)) or is_usual(title):
        return None
    for place, (line, record) in enumerate(records[1:MAX_ABOVE], 1):
        names = list(map(str.strip, record))
        has_rows = any(sum(map(bool, map(str.strip, row))) > 1 for _, row in records[place + 1 :])
        are_names = any(map(is_usual, names)) or (has_rows and all(map(_may_be_name, names)))
        if len(names) > 1 and all(names) and len(set(names)) == len(names) and are_names:
            message = f"the first line is a title ({title.strip()[:40]!r}), and line {line} names the columns"
            message += f" ({', '.join(names)[:80]})"
            fix = f"add data.header={line}; or, if the first line is the header, data.header=first"
            return Fault("missing-header", message, fix, file)
        if sum(map(bool, names)) > 1:
            return None
    return None


def propose_names(records: Sequence[Record]) -> list[str]:
    """Return names for the columns of these records, by their contents; `columnN` for those that suggest none."""
    width = len(records[0])
    contents = [_content([record[column] for record in records if len(record) == width]) for column in range(width)]
    letters = "ABCDEFGHIJ"[: max(width - 2, 0)]
    if len(letters) > 1 and all(value in letters for value in contents[-1].values):
        return ["question", *letters, "answer"]
    names = dict([(place, "id") for place, content in enumerate(contents) if content.is_id and width > 2][:1])
    labels = [place for place, content in enumerate(contents) if content.is_label and place not in names]
    if labels and width > 1:
        names[min(reversed(labels), key=lambda place: len(contents[place].values))] = "label"
    free = [place for place in range(width) if place not in names]
    texts = [place for place in free if contents[place].is_text]
    varied = [place for place in free if len(contents[place].values) > 1 or len(records) == 1]
    names |= _text_names(texts or varied or free, contents, with_label="label" in names.values())
    if width == 2 and "text" in names.values() and len(names) == 1:
        names[1 - next(iter(names))] = "label"  # or another answer
    return [names.get(place, f"column{place + 1}") for place in range(width)]


def _text_names(places: Sequence[int], contents: Sequence[_Content], with_label: bool) -> dict[int, str]:
    """Return names for the columns of texts, beside a label or not."""
    if not with_label and len(places) > 1:
        return dict(zip(places, ("prompt", "completion"), strict=False))
    if len(places) == 2 and all(contents[place].is_text for place in places):
        first, second = (contents[place].characters for place in places)
        return dict(zip(places, ("title", "text") if first < second / 2 else ("sentence1", "sentence2"), strict=True))
    return {max(places, key=lambda place: contents[place].characters): "text"} if places else {}


def _content(cells: Sequence[str]) -> _Content:
    rows, text = max(len(cells), 1), "".join("".join(cells).split())
    words = sum(len(cell.split()) for cell in cells) / rows
    letters = sum(map(str.isalpha, text)) / max(len(text), 1)
    return _Content(sum(map(len, cells)) / rows, words, letters, tuple(dict.fromkeys(cells)), len(cells))


def header_setting(names: Sequence[str]) -> str:
    """Return the setting that names the columns of a table without a header, for a shell."""
    return shlex.quote(f"data.header=[{','.join(names)}]")


def reading(names: Sequence[str], record: Record) -> str:
    """Return how names apply to a record, for a message; empty for up to two columns."""
    cells = (cell if len(cell) <= 20 else f"{cell[:20]}…" for cell in record)
    pairs = ", ".join(f"{name} {cell!r}" for name, cell in zip(names, cells, strict=False))
    return f" (the first line is {pairs})" if len(names) > 2 else ""


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
