"""One pass over all files: raw rows become checked rows of the store, and every fault its location."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice
from typing import Any, cast

from kamerton.data.data_file import DataFile
from kamerton.data.faults import FaultLog
from kamerton.data.options import COMPARED
from kamerton.data.read.columns import unused
from kamerton.data.read.columns.alone import alone_layout, is_alone, prompt_layout, with_stand_in
from kamerton.data.read.columns.constant import constant_fault
from kamerton.data.read.columns.described import described_fault, description_fault
from kamerton.data.read.columns.fields import to_fields
from kamerton.data.read.columns.formats import detect_format
from kamerton.data.read.columns.layout import Fields, Layout
from kamerton.data.read.columns.schema import find_layout
from kamerton.data.read.exports.rows import Exports, Row, joined_rows
from kamerton.data.read.files.containers import DAMAGE, layers
from kamerton.data.read.nested import parse_cell
from kamerton.data.read.preferences.rows import PreferenceReader
from kamerton.data.read.preferences.scored import join_scored
from kamerton.data.read.reading import Reading
from kamerton.data.read.records import read_rows
from kamerton.data.read.sources import SPLITS
from kamerton.data.read.split_column import SplitColumn
from kamerton.data.read.unmatched import Names, Unmatched, report_unknown_metadata
from kamerton.data.read.unreadable import FEW, MAX_ROWS, Unreadable
from kamerton.data.stored import completion_key, prompt_key, row_id
from kamerton.errors import Fault

HEAD = 64  # first rows; their values show the roles of columns with unclear names


def ingest(
    files: list[DataFile], log: FaultLog, reading: Reading, relabel: Mapping[str, str] | None = None
) -> Iterator[tuple[Any, ...]]:
    """Yield the values of `store.SCHEMA` for each row that is kept; `relabel` replaces completions."""
    for number, file in enumerate(files):
        others = [other for other in files if other is not file and other.source == file.source]
        yield from _FileReader(number, file, others, log, reading, relabel or {}).rows()


class _FileReader:
    """Reads a file; rows whose columns fit no schema are reported at its end, when the other rows' schema is known."""

    def __init__(
        self,
        number: int,
        file: DataFile,
        others: list[DataFile],
        log: FaultLog,
        reading: Reading,
        relabel: Mapping[str, str],
    ) -> None:
        self.number, self.file, self.log, self.reading, self.relabel = number, file, log, reading, relabel
        self.others = others  # of the same source
        self.name = file.name
        self.split = SPLITS.index(file.split) if file.split else -1
        self.layouts: dict[Names, tuple[Layout | Fault, int]] = {}
        self.of_prompts: dict[tuple[int, bool], tuple[Layout, int]] = {}  # by a layout's `id`, and whether alone
        self.unmatched = Unmatched(file, log)
        self.preferences = PreferenceReader(file, self._records)
        self.exports = Exports(file.columns, file.form)
        self.head: list[Mapping[str, Any]] = []
        self.unreadable = Unreadable(file, log)
        self.named_splits = SplitColumn()

    def rows(self) -> Iterator[tuple[Any, ...]]:
        count, has_file_fault = 0, False
        pending: list[tuple[int, Fault]] | None = []  # the first rows, until one of them can be read
        notes = self.reading.notes.setdefault(self.name, [])
        rows = self._raw_rows(notes.append)
        first = list(islice(rows, HEAD))
        self.head = [self.exports.plain(record) for _, record in first if not isinstance(record, Fault)]
        for row, record in chain(first, rows):
            if row == 0:
                has_file_fault |= cast(Fault, record).severity == "error"
                self.log.add(cast(Fault, record))
                continue
            count += 1
            if pending is not None:
                if isinstance(record, Fault):
                    pending.append((row, record))
                    if len(pending) == MAX_ROWS:
                        break
                    continue
                self.unreadable.report_rows(pending)
                pending = None
            values = self._store_values(row, record)
            if values is not None:
                yield values
        if pending and not has_file_fault and len(pending) > FEW:
            self.unreadable.report_file(pending)
        else:
            self.unreadable.report_rows(pending or [])
        self.unreadable.report_undecodable(count)
        self.reading.rows[self.name] = self.reading.rows.get(self.name, 0) + count
        self.reading.notes[self.name] += self._container()
        if count == 0 and not has_file_fault:
            self.log.add(Fault("empty-file", "the file has no rows", "point to a file with rows", self.name))
        self.exports.report(self.name, self.log)
        if fault := self.named_splits.fault(self.file):
            self.log.add(fault)
        layouts = [layout for layout, _ in self.layouts.values() if isinstance(layout, Layout)]
        self.unmatched.report(layouts, self.head, self._all_records)
        report_unknown_metadata(self.file, self.layouts if layouts else {}, self.log)

    def _raw_rows(self, note: Callable[[str], None]) -> Iterator[Row]:
        """Return the rows of the file, with those that are parts of one joined."""
        rows = joined_rows(read_rows(self.file, note), self.name, self.exports.named)
        return join_scored(rows, self.file.columns, note) if self.file.form.rows in COMPARED else rows

    def _records(self) -> Iterable[Mapping[str, Any]]:
        """Read the file from its first row on."""
        rows = self._raw_rows(lambda note: None)
        return (self.exports.plain(record) for _, record in rows if not isinstance(record, Fault))

    def _all_records(self) -> Iterator[Mapping[str, Any]]:
        """Read this file and the others of its source."""
        yield from self._records()
        for file in self.others:
            yield from _FileReader(self.number, file, [], self.log, self.reading, {})._records()

    def _container(self) -> list[str]:
        try:
            return layers(self.file)
        except DAMAGE:
            return []

    def _store_values(self, row: int, record: Mapping[str, Any] | Fault) -> tuple[Any, ...] | None:
        """Return the values of `store.SCHEMA`; None for a row that is dropped, or reported at the end of the file."""
        if isinstance(record, Fault):
            self.unreadable.report_rows([(row, record)])
            return None
        self.named_splits.add(record)
        names = tuple(record)
        if self.exports.is_export(names):
            unpacked = self.exports.unpack(names, record, row)
            if unpacked is None:
                return None
            record, names = unpacked, tuple(unpacked)
        if self.file.form.rows in COMPARED:
            return self._preference_values(row, record)
        layout, schema = self._layout(names, record)
        if isinstance(layout, Fault):
            self.unmatched.add(record, layout, row)
            return None
        if layout.kind == "chat" and isinstance(text := record[layout.prompt], str):  # turns as a text of JSON
            record = {**record, layout.prompt: parse_cell(text) or text}
        if self._is_misleading(self._unused_values(record, layout), row):
            self.log.reject(self.name, row, unused.CODE, record=record)
            return None
        fields, faults, schema = self._fields(record, layout, schema)
        if faults:
            placed = [replace(fault, file=self.name, row=row) for fault in faults]
            if not self.log.add_row(placed, record):
                return None
        assert fields is not None, faults  # unusable fields have a fault that drops the row
        return self._values(row, fields, schema)

    def _fields(self, record: Mapping[str, Any], layout: Layout, schema: int) -> tuple[Fields | None, list[Fault], int]:
        """Return the fields of a row, which may be a prompt alone, its faults, and the number of its schema."""
        if self.file.form.rows != "prompts":
            return *to_fields(record, layout, self.log.action), schema
        alone = is_alone(record, layout, self.log.action)
        key = id(layout), alone  # it lives as long as `layouts`
        if key not in self.of_prompts:
            own = alone_layout(layout) if alone else layout
            self.of_prompts[key] = own, self._schema_number(own, own.schema, [])
        own, schema = self.of_prompts[key]
        fields, faults = to_fields(with_stand_in(record, own) if alone else record, own, self.log.action)
        return (replace(fields, completion="") if alone and fields is not None else fields), faults, schema

    def _preference_values(self, row: int, record: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Return the values of `store.SCHEMA` of a row with several completions; None for a row that is dropped."""
        read = self.preferences.read(record, self.log.action)
        if isinstance(read, Fault):
            self.unmatched.add(record, read, row)
            return None
        if self._is_misleading(read.unused, row):
            self.log.reject(self.name, row, unused.CODE, record=record)
            return None
        faults = [replace(fault, file=self.name, row=row) for fault in read.faults]
        if faults and not self.log.add_row(faults, record):
            return None
        assert read.fields is not None, faults
        assert read.layout is not None, faults
        schema = self._schema_number(read.layout, read.schema, self.preferences.notes)
        self.layouts.setdefault(tuple(record), (read.layout, schema))
        return self._values(row, read.fields, schema)

    def _values(self, row: int, fields: Fields, schema: int) -> tuple[Any, ...]:
        prompt, completion = fields.prompt, self.relabel.get(fields.completion, fields.completion)
        return (
            row_id(prompt, fields.chat, completion, fields.extras),
            prompt,
            fields.chat,
            completion,
            fields.extras,
            fields.metadata,
            prompt_key(prompt if prompt is not None else completion),
            completion_key(completion, fields.extras),
            self.number,
            self.split,
            row,
            schema,
        )

    def _unused_values(self, record: Mapping[str, Any], layout: Layout) -> Iterable[unused.UnusedValue]:
        alone = layout.kind == "text" and self.file.columns.text is None
        if alone:
            self.reading.text = layout.completion
        return unused.unused_values(record, layout, self.file.columns, alone=alone)

    def _is_misleading(self, values: Iterable[unused.UnusedValue], row: int) -> bool:
        """Count the fields that the model is not shown; return whether the row must be dropped without them."""
        kinds = set()
        for value in values:
            unused.count_value(self.reading.unused, value, self.name, row)
            kinds.add(value.kind)
        return any(kinds) and self.log.policy.get(unused.CODE) != "warn"

    def _layout(self, names: Names, record: Mapping[str, Any]) -> tuple[Layout | Fault, int]:
        """Return layout and schema number of rows with these columns; columns that are null in the row are ignored."""
        cached, columns = self.layouts.get(names), self.file.columns
        if cached is None:
            layout = detect_format(record, self.file) or find_layout(names, columns, self.file.form, self.head)
            if isinstance(layout, Layout) and self.file.form.rows == "completions":
                layout = constant_fault(layout, columns, self.head, self._all_records) or layout
            if isinstance(layout, Fault):
                layout = description_fault(record, self.file) or described_fault(record, self.file) or layout
            schema = -1
            if self.file.form.rows == "prompts":
                layout = prompt_layout(layout, names, self.file, self.head)
            elif isinstance(layout, Layout):
                schema = self._schema_number(layout, layout.schema, [])
            cached = self.layouts[names] = (layout, schema)
        layout = cached[0]
        if isinstance(layout, Layout) and layout.turns and record.get(layout.turns[0]) is None:
            filled = tuple(name for name in names if record[name] is not None)
            if len(filled) < len(names) and isinstance(self._layout(filled, record)[0], Layout):
                return self._layout(filled, record)
        return cached

    def _schema_number(self, layout: Layout, schema: str, notes: list[str]) -> int:
        """Return the number of a schema, after noting how its rows are read."""
        self.reading.forms.setdefault(schema, layout.form)
        noted = self.reading.notes.setdefault(self.name, [])
        noted += [note for note in [*layout.notes, *notes] if note not in noted]
        return self.reading.schema_number(self.file.source, schema)
