"""What a test set is sliced by: its metadata, its labels, the length of its prompts, and what was seen in training.

A field gives every example a group, or None. Numbers with many values are cut at their quartiles; fields whose values
are nearly all different make no slices, and that is said.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kamerton.data.splits.assign import known_value
from kamerton.decide.compare.comparison import Notice
from kamerton.errors import Fault, UserError
from kamerton.words import number

Groups = list[str | None]
MOST_GROUPS = 100
MOST_NUMBERS = 12  # different numbers that are groups of their own


def fields_of(table: pa.Table) -> tuple[dict[str, Groups], list[Notice]]:
    """The fields of a score table by name, and those that cannot be used."""
    found: dict[str, Groups] = {"label": table["label"].to_pylist()}
    found["prompt_length"] = quartiles([len(text) for text in table["prompt"].to_pylist()], "characters")
    notices = []
    rows = [_metadata(text, row) for row, text in enumerate(table["metadata"].to_pylist(), 1)]
    for name in dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row):
        values = [known_value(row.get(name)) for row in rows]
        groups = _grouped(values)
        if groups is None:
            message = f"metadata field {name!r} makes no slices: {len(set(map(str, values))):,} different values"
            notices.append(Notice("slices.too-many", message))
        else:
            found[f"metadata.{name}" if name in found else name] = groups
    return {name: groups for name, groups in found.items() if len(set(groups) - {None}) > 1}, notices


def _metadata(text: str, row: int) -> Any:
    """The metadata of a row of a table, which may come from anywhere."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        message, fix = f"metadata of row {row} cannot be read: {error}", "score the run again, or correct the table"
        raise UserError([Fault("scores.unreadable", message, fix, row=row, column="metadata")]) from None


def _grouped(values: Sequence[Any]) -> Groups | None:
    """Values as groups; None where there are too many."""
    known = [value for value in values if value is not None]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
    if known and numeric and len(set(known)) > MOST_NUMBERS:
        return quartiles(values)
    texts = [None if value is None else _text(value) for value in values]
    return texts if len(set(texts)) <= min(MOST_GROUPS, max(2, len(texts) // 2)) else None


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def quartiles(values: Sequence[float | None], unit: str = "") -> Groups:
    """Each number as the quarter of all that it is in, written with its bounds: `12 to 30 characters`."""
    known = np.array([value for value in values if value is not None], np.float64)
    bounds = np.unique(np.quantile(known, [0, 0.25, 0.5, 0.75, 1]))
    places = np.clip(np.searchsorted(bounds, known, side="left") - 1, 0, max(len(bounds) - 2, 0))
    names = {}
    for place in np.unique(places):
        inside = known[places == place]
        low, high = (_plain(float(bound)) for bound in (inside.min(), inside.max()))
        names[place] = (low if low == high else f"{low} to {high}") + (f" {unit}" if unit else "")
    found = iter(names[place] for place in places)
    return [None if value is None else next(found) for value in values]


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() else number(value)
