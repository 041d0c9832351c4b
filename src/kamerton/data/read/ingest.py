"""One pass over all files: raw rows become checked rows of the store, and every fault gets its place."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from kamerton.data.faults import FaultLog
from kamerton.data.options import DataFile
from kamerton.data.read import unused
from kamerton.data.read.formats import known_format
from kamerton.data.read.records import open_bytes, read_rows
from kamerton.data.read.schema import Fields, Layout, find_layout, listed, nowhere, to_fields, unknown_column
from kamerton.data.read.sniff import no_row
from kamerton.data.read.sources import SPLITS
from kamerton.data.read.unused import Unused
from kamerton.data.store import hash64, prompt_key, row_id
from kamerton.errors import Fault

Names = tuple[str, ...]
HELD = 1000  # rows none of which can be read, for a file to be given up
FEW = 2  # such rows are reported one by one


@dataclass
class Reading:
    """What a pass over the files found: rows per file, and the schemas as (source, schema) in order of appearance.

    `unused` says of each field that the model is not shown what was seen of it; `text` is the column of plain text.
    """

    rows: dict[str, int] = field(default_factory=dict)
    schemas: list[tuple[str, str]] = field(default_factory=list)
    unused: dict[str, Unused] = field(default_factory=dict)
    text: str = ""

    def schema_number(self, source: str, schema: str) -> int:
        if (source, schema) not in self.schemas:
            self.schemas.append((source, schema))
        return self.schemas.index((source, schema))


def ingest(
    files: list[DataFile], log: FaultLog, reading: Reading, relabel: Mapping[str, str] | None = None
) -> Iterator[tuple[Any, ...]]:
    """Yield the values of `store.SCHEMA` for each row that stays; `relabel` replaces completions."""
    for number, file in enumerate(files):
        yield from _FileReader(number, file, log, reading, relabel or {}).rows()


class _FileReader:
    """Reads one file; rows whose columns fit no schema wait to its end, when it is known what the other rows have."""

    def __init__(
        self, number: int, file: DataFile, log: FaultLog, reading: Reading, relabel: Mapping[str, str]
    ) -> None:
        self.number, self.file, self.log, self.reading, self.relabel = number, file, log, reading, relabel
        self.name = str(file.path)
        self.split = SPLITS.index(file.split) if file.split else -1
        self.layouts: dict[Names, tuple[Layout | Fault, int]] = {}
        self.samples: dict[Names, Mapping[str, Any]] = {}  # the first row of each set of columns
        self.waiting: dict[Names, array[int]] = {}
        self.undecodable: list[Fault] = []  # the first
        self.undecodable_rows = 0

    def rows(self) -> Iterator[tuple[Any, ...]]:
        count, whole = 0, True
        held: list[tuple[int, Fault]] | None = []  # the first rows, as long as none of them can be read
        for row, record in read_rows(self.file):
            if row == 0:
                whole = False
                self.log.add(cast(Fault, record))
                continue
            count += 1
            if held is not None:
                if isinstance(record, Fault):
                    held.append((row, record))
                    if len(held) == HELD:
                        break
                    continue
                self._unreadable(held)
                held = None
            values = self._values(row, record)
            if values is not None:
                yield values
        if held and whole and len(held) > FEW:
            self._none_readable(held)
        else:
            self._unreadable(held or [])
        if self.undecodable:
            fault, several = self.undecodable[0], f" ({self.undecodable_rows:,} of {count:,} rows)"
            self.log.add(replace(fault, message=fault.message + several * (self.undecodable_rows > 1)))
        self.reading.rows[self.name] = count
        if count == 0 and whole:
            self.log.add(Fault("empty-file", "the file has no rows", "point to a file with rows", self.name))
        self._settle()

    def _unreadable(self, rows: list[tuple[int, Fault]]) -> None:
        """Report of rows that could not be read; those in another encoding are one fault at the end of the file."""
        for row, fault in rows:
            if fault.code != "undecodable-byte":
                self.log.add_row([replace(fault, row=row)])
                continue
            self.undecodable_rows += 1
            self.log.reject(self.name, row, fault.code)
            if not self.undecodable:
                self.undecodable.append(replace(fault, row=row))

    def _none_readable(self, rows: list[tuple[int, Fault]]) -> None:
        """Report of a file of which no row can be read."""
        with open_bytes(self.file.path) as stream:
            first = stream.readline(10_000).decode(self.file.encoding, "replace").strip()
        for fault in no_row([fault for _, fault in rows], first, self.file, all_read=len(rows) < HELD):
            self.log.add(fault)
        for row, fault in rows:
            self.log.reject(self.name, row, fault.code)

    def _values(self, row: int, record: Mapping[str, Any] | Fault) -> tuple[Any, ...] | None:
        if isinstance(record, Fault):
            self._unreadable([(row, record)])
            return None
        layout, schema = self._layout(tuple(record), record)
        if isinstance(layout, Fault):
            self.waiting.setdefault(tuple(record), array("q")).append(row)
            return None
        if self._is_misleading(record, layout, row):
            self.log.reject(self.name, row, unused.CODE, record=record)
            return None
        fields, faults = to_fields(record, layout, self.log.action)
        if faults:
            placed = [replace(fault, file=self.name, row=row) for fault in faults]
            if not self.log.add_row(placed, record):
                return None
        assert fields is not None, faults  # what cannot be used has a fault that lets no row stay
        return self._row(fields, schema, row)

    def _is_misleading(self, record: Mapping[str, Any], layout: Layout, row: int) -> bool:
        """Note what of the row is not shown to the model; whether the row means something else without it."""
        columns = self.file.columns
        alone = layout.kind == "text" and columns.text is None
        found = [*unused.unused_values(record, layout.unused, layout.shown, columns, alone=alone)]
        for value in found:
            unused.note(self.reading.unused, value, self.name, row)
        if alone:
            self.reading.text = layout.completion
        return any(value.kind for value in found) and self.log.policy.get(unused.CODE) != "warn"

    def _layout(self, names: Names, record: Mapping[str, Any]) -> tuple[Layout | Fault, int]:
        """Return the layout of rows with these columns; columns that are null in a row do not say what it is."""
        found = self.layouts.get(names)
        if found is None:
            layout = known_format(record, self.file.columns) or find_layout(names, self.file.columns)
            self.samples[names] = record
            schema = -1
            if isinstance(layout, Layout):
                schema = self.reading.schema_number(self.file.source, layout.schema)
            found = self.layouts[names] = (layout, schema)
        layout = found[0]
        if isinstance(layout, Layout) and record.get(layout.prompt or layout.completion) is None:
            filled = tuple(name for name in names if record[name] is not None)
            if len(filled) < len(names) and isinstance(self._layout(filled, record)[0], Layout):
                return self._layout(filled, record)
        return found

    def _row(self, fields: Fields, schema: int, row: int) -> tuple[Any, ...]:
        prompt, completion = fields.prompt, fields.completion
        completion = self.relabel.get(completion, completion)
        return (
            row_id(prompt, fields.chat, completion),
            prompt,
            fields.chat,
            completion,
            fields.metadata,
            prompt_key(prompt if prompt is not None else completion),
            hash64(completion.encode()),
            self.number,
            self.split,
            row,
            schema,
        )

    def _settle(self) -> None:
        """Report of every waiting row what it lacks."""
        good = [layout for layout, _ in self.layouts.values() if isinstance(layout, Layout)]
        also = f"; the other rows are {good[0].schema}" if good else ""
        told = set()
        for names, rows in sorted(self.waiting.items(), key=lambda item: -len(item[1])):
            fault = self.layouts[names][0]
            if not isinstance(fault, Fault):
                continue
            if fault.code == unused.CODE:
                message = f"{fault.message} ({len(rows):,} row{'s' if len(rows) > 1 else ''})"
                self.log.add(replace(fault, message=message, file=self.name, row=rows[0]), misleading(self.log.policy))
                for row in rows:
                    self.log.reject(self.name, row, fault.code)
                continue
            if not good and (fault.code == "unknown-column" or sum(map(len, self.waiting.values())) > 1):
                if fault.column not in told:
                    told.add(fault.column)
                    self.log.add(
                        replace(
                            nowhere(fault, self.samples[names], self.file.columns, self.file.format), file=self.name
                        )
                    )
                for row in rows:
                    self.log.reject(self.name, row, fault.code)
                continue
            if fault.code == "unknown-column":
                message = f"the row has no {fault.column} ({listed(list(names))})"
                fault = Fault("missing-field", message, f"add {fault.column}, or remove the row", column=fault.column)
            for row in rows:
                self.log.add_row([replace(fault, message=fault.message + also, file=self.name, row=row)])
        self._unknown_metadata(good)

    def _unknown_metadata(self, good: list[Layout]) -> None:
        if not good:
            return
        present = sorted({name for names in self.layouts for name in names})
        for name in self.file.columns.metadata or []:
            if name not in present:
                self.log.add(replace(unknown_column(name, present, "data.columns.metadata"), file=self.name))


def report_unused(reading: Reading, used: Sequence[str | None], log: FaultLog) -> None:
    """Report the fields that the model is not shown; `used` are metadata fields that the configuration names."""
    total = sum(reading.rows.values())
    for fault, is_misleading in unused.unused_faults(reading.unused, used, reading.text, total):
        log.add(fault, misleading(log.policy) if is_misleading else log.action(fault.code).replace("drop", "warn"))


def misleading(policy: Mapping[str, str | None]) -> str:
    """Return what is done about rows that mean something else than what would be learnt of them."""
    return policy.get(unused.CODE) or "error"
