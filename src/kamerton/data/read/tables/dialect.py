"""The dialect of a table: its delimiter, and whether quotes enclose fields or are ordinary characters.

Both are decided by the consistency of the number of fields, not by the name of the file.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from kamerton.data.read.tables.single_quotes import MAX_LINES, is_single_quoted

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
FIELD_LIMIT = 64 * 2**20  # characters
RECORDS = 200  # that determine the delimiter
CONSISTENT = 0.9  # share of records with as many fields as the first
MAX_RECORDS = 1000  # that determine a column of labels


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a table is read. `width` is the number of fields of its first record.

    `quote` is the character that encloses fields, "" if quotes are ordinary characters. `labels` are the values of a
    column with few of them: evidence of where a record begins.
    """

    delimiter: str
    quote: str = '"'
    width: int = 0
    labels: tuple[int, frozenset[str]] | None = None

    @property
    def quoting(self) -> dict[str, Any]:
        """The arguments of `csv.reader` for quotes."""
        return {"quotechar": self.quote} if self.quote else {"quoting": csv.QUOTE_NONE}

    def swallows(self, lines: Sequence[str]) -> bool:
        """Return whether the lines of one quoted record are records themselves, joined by a stray quote."""
        if len(lines) < 2 or self.width < 2:
            return False
        fields = [line.rstrip("\r\n").split(self.delimiter) for line in lines]
        if any(len(values) != self.width for values in fields):
            return False
        if self.delimiter == "\t" or self.labels is None:  # texts hardly contain tabs
            return self.delimiter == "\t"
        column, usual = self.labels
        labels = [values[column].strip(f"{self.quote} ") for values in fields]
        return all(labels) and usual.issuperset(labels)


@dataclass(slots=True)
class _Counts:
    """Statistics of a table whose quotes are ordinary: lines with another width, and enclosed cells by column."""

    bad_lines: int = 0
    records: int = 0
    quoted: Counter[int] = field(default_factory=Counter)
    needless: Counter[int] = field(default_factory=Counter)


def delimiter_name(delimiter: str) -> str:
    """Return the name of a delimiter, as `data.delimiter` takes it."""
    return DELIMITERS.get(delimiter, delimiter)


def find_delimiters(lines: Sequence[str], usual: str) -> list[str]:
    """Return the delimiter of a table that begins with these lines; several if they are equally plausible.

    `usual` is that of the file's name; it is returned if no delimiter gives consistent records.
    """
    widths = {sign: next(_widths(lines, sign, True), 1) for sign in DELIMITERS}
    shares = {sign: max(_share(lines, sign, quoted) for quoted in (True, False)) for sign in DELIMITERS}
    plausible = [sign for sign in DELIMITERS if widths[sign] > 1 and shares[sign] >= CONSISTENT]
    if len(plausible) > 1:
        text = "".join(lines)
        plausible = [sign for sign in plausible if text.count(f"{sign} ") < text.count(sign) / 2] or plausible
    if plausible:
        return plausible
    widest = max(widths, key=lambda sign: widths[sign])
    return [usual if widths[usual] > 1 or widths[widest] < 2 else widest]


def _share(lines: Sequence[str], delimiter: str, quoted: bool) -> float:
    """Return the share of records that have as many fields as the first."""
    widths = list(_widths(lines, delimiter, quoted))
    return widths.count(widths[0]) / len(widths) if widths else 0.0


def _widths(lines: Iterable[str], delimiter: str, quoted: bool) -> Iterator[int]:
    reader = csv.reader(lines, delimiter=delimiter, **Dialect(delimiter, '"' * quoted).quoting)
    try:
        yield from (len(fields) for fields in reader if fields)
    except csv.Error:  # of the rest, nothing is known
        return


def find_dialect(lines: Callable[[], Iterable[str]], delimiter: str) -> Dialect:
    """Return the dialect of a table with this delimiter: with the reading of its quotes that is consistent.

    If both are, quotes enclose fields; in a table with tabs only if they enclose a whole column or no field
    needlessly. Single quotes enclose fields if nothing else explains them (`is_single_quoted`).
    """
    csv.field_size_limit(FIELD_LIMIT)
    first = list(islice(lines(), MAX_LINES))
    shares = [_share(first, delimiter, quoted) for quoted in (True, False)]
    if is_single_quoted(first, delimiter, is_consistent=max(shares) == 1):
        single = Dialect(delimiter, "'")
        width = len(next(csv.reader(first, delimiter=delimiter, **single.quoting), []))
        return replace(single, width=width, labels=_find_labels(lines(), single, width))
    width, literal_width = (next(_widths(lines(), delimiter, quoted), 1) for quoted in (True, False))
    dialect = Dialect(delimiter, '"', width, _find_labels(lines(), Dialect(delimiter), width))
    if not any('"' in line for line in lines()):
        return dialect
    literal = _literal_counts(lines(), delimiter, literal_width)
    bad_lines = _bad_lines(lines(), dialect)
    if bad_lines == literal.bad_lines == 0:
        is_quoted = delimiter != "\t" or all(
            literal.quoted[column] >= literal.records - 1 or not literal.needless[column] for column in literal.quoted
        )
    elif delimiter == "\t":
        is_quoted = bad_lines <= literal.bad_lines
    else:
        is_quoted = literal.bad_lines > 0 or literal.quoted.total() > bad_lines or not bad_lines
    return dialect if is_quoted else Dialect(delimiter, "", literal_width, dialect.labels)


def _find_labels(lines: Iterable[str], dialect: Dialect, width: int) -> tuple[int, frozenset[str]] | None:
    """Return a column with few values, and those that occur more than once; None without one."""
    values: list[Counter[str]] = [Counter() for _ in range(width)]
    try:
        reader = csv.reader(lines, delimiter=dialect.delimiter, **dialect.quoting)
        for fields in islice(reader, MAX_RECORDS):
            if len(fields) == width:
                for counter, cell in zip(values, fields, strict=True):
                    counter[cell] += 1
    except csv.Error:  # the records before it are enough
        pass
    for column in reversed(range(width)):
        labels = frozenset(value for value, count in values[column].items() if count > 1 and value.strip())
        if 0 < len(labels) <= values[column].total() / 4:
            return column, labels
    return None


def _literal_counts(lines: Iterable[str], delimiter: str, width: int) -> _Counts:
    """Read quotes as ordinary characters."""
    counts = _Counts()
    for line in lines:
        if not line.strip("\r\n"):
            continue
        counts.records += 1
        counts.bad_lines += line.count(delimiter) != width - 1
        if '"' not in line:
            continue
        for column, cell in enumerate(line.rstrip("\r\n").split(delimiter)):
            if len(cell) > 1 and cell[0] == cell[-1] == '"':
                counts.quoted[column] += 1
                counts.needless[column] += not any(sign in cell[1:-1] for sign in '",;')
    return counts


def _bad_lines(lines: Iterable[str], dialect: Dialect) -> int:
    """Read quotes as enclosing fields; return the number of lines in inconsistent records and swallowed ones."""
    taken: list[str] = []

    def kept() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    reader = csv.reader(kept(), delimiter=dialect.delimiter, strict=True)
    count = 0
    while True:
        taken.clear()
        try:
            fields = next(reader, None)
        except csv.Error:
            count += len(taken)
            continue
        if fields is None:
            return count
        if fields and (len(fields) != dialect.width or dialect.swallows(taken)):
            count += len(taken)
