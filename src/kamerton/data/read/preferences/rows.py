"""From the completions of a preference row to one row of the store: the best completion, and its alternatives."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from kamerton.data.data_file import DataFile
from kamerton.data.example import Alternative, ToolCall
from kamerton.data.read.columns.fields import to_fields
from kamerton.data.read.columns.formats import detect_format
from kamerton.data.read.columns.layout import Fields, Layout
from kamerton.data.read.columns.schema import find_layout
from kamerton.data.read.columns.unused import UnusedValue, is_empty, unused_values
from kamerton.data.read.conversations.chat import is_dropped
from kamerton.data.read.preferences.forms import OTHER_ROWS, read_sides
from kamerton.data.read.preferences.sides import CODE, Record, Side, has_prompt
from kamerton.data.read.text import Action
from kamerton.data.stored import stored_extras
from kamerton.errors import Fault

RANKED = "every completion is compared with those of lower scores"
BEST_DESIRED = "of several completions the best is desired, the others are not"


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """A row as it is read: its fields (None if it cannot be used), its faults, the layout of its best completion, the
    name of its schema, and the fields that the model is not shown."""

    fields: Fields | None
    faults: list[Fault]
    layout: Layout | None = None
    schema: str = ""
    unused: list[UnusedValue] = field(default_factory=list)


class PreferenceReader:
    """Reads the rows of a file that have several completions, or one with a judgement of it."""

    def __init__(self, file: DataFile, records: Callable[[], Iterable[Record]]) -> None:
        """`records` returns all rows of the file from the first one on."""
        self._file, self._records = file, records
        self._layouts: dict[object, Layout | Fault] = {}
        self.notes: list[str] = []

    def read(self, record: Record, action: Action) -> PreferenceRow | Fault:
        """Return the row; a fault if its columns are not those of preferences."""
        sides = read_sides(record, self._file.columns, self._file.form)
        if isinstance(sides, Fault):
            return sides if sides.code in OTHER_ROWS else PreferenceRow(None, [sides])
        no_prompt = sides[0].no_prompt
        if no_prompt is not None and self._have_prompts:
            return no_prompt if no_prompt.code in OTHER_ROWS else PreferenceRow(None, [no_prompt])
        layouts: list[Layout] = []
        for side in sides:
            layout = self._layout(side)
            if isinstance(layout, Fault):
                return layout
            layouts.append(layout)
        fields, faults = _joined(sides, layouts, action)
        self._note(sides)
        return PreferenceRow(fields, faults, layouts[0], self._schema(sides, layouts[0]), _unused(sides, layouts))

    @cached_property
    def _have_prompts(self) -> bool:
        """Whether a row of the file has a prompt."""
        return any(has_prompt(record, self._file.columns) for record in self._records())

    def _layout(self, side: Side) -> Layout | Fault:
        """Return the layout of the row of a completion, as that of any other row."""
        columns = side.columns
        key = (tuple(side.record), columns.prompt, columns.completion, columns.messages, columns.text)
        if key not in self._layouts:
            file = replace(self._file, columns=columns)
            layout = detect_format(side.record, file) or find_layout(side.record, columns, file.form, [side.record])
            if isinstance(layout, Layout) and layout.kind == "pair" and layout.prompt == "instruction":
                layout = _with_input(layout, side.record)
            self._layouts[key] = layout
        return self._layouts[key]

    def _schema(self, sides: Sequence[Side], layout: Layout) -> str:
        """Return a name of the schema; pairs and rankings with texts as prompts have the same."""
        if self._file.form.rows == "judgements" and len(sides) == 1:
            return f"judgements ({layout.schema.partition(' (')[2]}"
        return f"preferences ({self._file.form.prompt or layout.prompt}, completions)"

    def _note(self, sides: Sequence[Side]) -> None:
        """Note how several completions are compared, where that is not in the row."""
        several = len({side.score for side in sides}) > 1
        note = BEST_DESIRED if self._file.form.rows == "judgements" else RANKED if len(sides) > 2 else ""
        if several and note and note not in self.notes:
            self.notes.append(note)


def _with_input(layout: Layout, record: Record) -> Layout:
    """Return the layout of Alpaca's instruction, after which its input stands."""
    context = "input" if "input" in record and "input" not in layout.shown else ""
    metadata, unused = (tuple(n for n in names if n != context) for names in (layout.metadata, layout.unused))
    return replace(layout, kind="alpaca", context=context, metadata=metadata, unused=unused)


def _joined(sides: Sequence[Side], layouts: Sequence[Layout], action: Action) -> tuple[Fields | None, list[Fault]]:
    """Return the fields of a row (None if it cannot be used), with the alternatives in its extras, and the faults."""
    read: list[Fields] = []
    faults: list[Fault] = []
    for side, layout in zip(sides, layouts, strict=True):
        fields, own = to_fields(side.record, layout, action)
        for fault in own:
            placed = replace(fault, column=side.locate(fault.column)) if fault.column else fault
            faults += [placed] if placed not in faults else []
        if fields is not None:
            read.append(fields)
    if len(read) < len(sides) or is_dropped(faults, action):
        return None, faults
    incomparable = _fault(read, sides)
    if incomparable is not None:
        return None, [*faults, incomparable]
    order = sorted(range(len(sides)), key=lambda i: (-sides[i].score, i))
    extras = [json.loads(fields.extras or "{}") for fields in read]
    calls = [tuple(ToolCall(*call) for call in values.get("tool_calls", ())) for values in extras]
    alternatives = [
        Alternative(read[i].completion, sides[i].score, extras[i].get("reasoning", ""), calls[i]) for i in order[1:]
    ]
    best = order[0]
    stored = stored_extras(
        extras[best].get("reasoning", ""),
        calls[best],
        extras[best].get("tools", ""),
        extras[best].get("weight", 1.0),
        sides[best].score,
        alternatives,
    )
    return replace(read[best], extras=stored), faults


def _fault(read: Sequence[Fields], sides: Sequence[Side]) -> Fault | None:
    """Return the fault of completions that cannot be compared."""
    if len(sides) == 1:
        return None
    places = ", ".join(side.place for side in sides)
    if any((fields.prompt, fields.chat) != (read[0].prompt, read[0].chat) for fields in read):
        message = f"the turns before the completions differ ({places}); only their last turns are compared"
        return Fault(CODE, message, "compare completions of one prompt", column=sides[-1].place)
    if len({side.score for side in sides}) == 1:
        return Fault(CODE, f"no completion is better than another ({places})", "remove the row", column=sides[0].place)
    first: dict[tuple[str, str | None], Side] = {}
    for fields, side in zip(read, sides, strict=True):
        other = first.setdefault((fields.completion, fields.extras), side)
        if other.score != side.score:
            message = f"{other.place} and {side.place} are the same completion, and one of them is better"
            return Fault(CODE, message, "remove the row", column=side.place)
    return None


def _unused(sides: Sequence[Side], layouts: Sequence[Layout]) -> list[UnusedValue]:
    """Return the fields that the model is not shown: of the row those that no completion's row shows."""
    by_side = [
        list(unused_values(side.record, layout, side.columns, alone=False))
        for side, layout in zip(sides, layouts, strict=True)
    ]
    shared = set.intersection(*({value.name for value in values if value.column} for values in by_side))
    result: dict[str, UnusedValue] = {}
    for side, values in zip(sides, by_side, strict=True):
        for value in values:
            if value.name in shared or not value.column:
                result.setdefault(value.name, value)
        name = side.place.split("[")[0]
        for key, item in _filled(side.unread):
            result.setdefault(f"{name}[].{key}", UnusedValue(f"{name}[].{key}", item, "", False))
    return list(result.values())


def _filled(values: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    return ((key, value) for key, value in values.items() if not is_empty(value))
