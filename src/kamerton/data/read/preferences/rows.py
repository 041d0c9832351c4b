"""From the completions of a preference row to one row of the store: the best completion, and its alternatives."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kamerton.data.example import Alternative, ToolCall
from kamerton.data.read.columns.fields import to_fields
from kamerton.data.read.columns.layout import Fields, Layout
from kamerton.data.read.conversations.chat import is_dropped
from kamerton.data.read.preferences.sides import CODE, Side
from kamerton.data.read.text import Action
from kamerton.data.stored import stored_extras
from kamerton.errors import Fault

LayoutOf = Callable[[Mapping[str, Any]], Layout | Fault]


def preference_fields(sides: list[Side], layout_of: LayoutOf, action: Action) -> tuple[Fields | None, list[Fault]]:
    """Return the fields of a row (None if it cannot be used), with the alternatives in its extras, and the faults."""
    read: list[Fields] = []
    faults: list[Fault] = []
    for side in sides:
        layout = layout_of(side.record)
        if isinstance(layout, Fault):
            return None, [layout]
        fields, own = to_fields(side.record, layout, action)
        faults += [fault for each in own if (fault := _at(each, side, layout)) not in faults]
        if fields is not None:
            read.append(fields)
    if len(read) < len(sides) or is_dropped(faults, action):
        return None, faults
    incomparable = _fault(read, sides)
    if incomparable is not None:
        return None, [*faults, incomparable]
    order = sorted(range(len(sides)), key=lambda i: (-sides[i].score, i))
    best = read[order[0]]
    extras = [json.loads(fields.extras or "{}") for fields in read]
    calls = [tuple(ToolCall(*call) for call in values.get("tool_calls", ())) for values in extras]
    alternatives = [
        Alternative(read[i].completion, sides[i].score, extras[i].get("reasoning", ""), calls[i]) for i in order[1:]
    ]
    first = extras[order[0]]
    stored = stored_extras(
        first.get("reasoning", ""),
        calls[order[0]],
        first.get("tools", ""),
        first.get("weight", 1.0),
        sides[order[0]].score,
        alternatives,
    )
    return replace(best, extras=stored), faults


def _at(fault: Fault, side: Side, layout: Layout) -> Fault:
    """Return a fault of the completion with the place that it has in the row."""
    return replace(fault, column=side.place) if fault.column == layout.completion else fault


def _fault(read: list[Fields], sides: list[Side]) -> Fault | None:
    """Return the fault of completions that cannot be compared."""
    if len(sides) == 1:
        return None
    places = ", ".join(side.place for side in sides)
    if any((fields.prompt, fields.chat) != (read[0].prompt, read[0].chat) for fields in read):
        message = f"the turns before the completions differ ({places})"
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
