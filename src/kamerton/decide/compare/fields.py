"""Fields to slice a test set by: metadata, labels, prompt length, and whether an example was seen in training.

A field assigns each example a group, or None. Numeric fields with many values are grouped by quartile; fields whose
values are nearly all different are skipped with a notice.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kamerton.data.splits.assign import present_value
from kamerton.decide.compare.comparison import Notice
from kamerton.errors import Fault, UserError
from kamerton.words import number

Groups = list[str | None]
MAX_GROUPS = 100
MAX_NUMBERS = 12  # distinct numbers; with more, the groups are quartiles


def fields_of(table: pa.Table) -> tuple[dict[str, Groups], list[Notice]]:
    """Return the fields of a score table by name, and notices about those that cannot be used."""
    fields: dict[str, Groups] = {"label": table["label"].to_pylist()}
    fields["prompt_length"] = quartiles([len(text) for text in table["prompt"].to_pylist()], "characters")
    notices = []
    rows = []
    for row, text in enumerate(table["metadata"].to_pylist(), 1):
        try:
            rows.append(json.loads(text))
        except (ValueError, RecursionError) as error:
            message, fix = f"metadata of row {row} cannot be read: {error}", "score the run again, or fix the table"
            raise UserError([Fault("scores.unreadable", message, fix, row=row, column="metadata")]) from None
    for name in dict.fromkeys(name for metadata in rows if isinstance(metadata, dict) for name in metadata):
        values = [present_value(metadata.get(name)) for metadata in rows]
        groups = _groups(values)
        if groups is None:
            message = f"metadata field {name!r} is not sliced: {len(set(map(str, values))):,} different values"
            notices.append(Notice("slices.too-many", message))
        else:
            fields[f"metadata.{name}" if name in fields else name] = groups
    return {name: groups for name, groups in fields.items() if len(set(groups) - {None}) > 1}, notices


def _groups(values: Sequence[Any]) -> Groups | None:
    """Return the group of each value; None if there are too many groups."""
    present = [value for value in values if value is not None]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in present)
    if present and numeric and len(set(present)) > MAX_NUMBERS:
        return quartiles(values)
    texts = [None if value is None else _text(value) for value in values]
    return texts if len(set(texts)) <= min(MAX_GROUPS, max(2, len(texts) // 2)) else None


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def quartiles(values: Sequence[float | None], unit: str = "") -> Groups:
    """Return the quartile of each value, named by its bounds, e.g. `12 to 30 characters`; None stays None."""
    present = np.array([value for value in values if value is not None], np.float64)
    edges = np.unique(np.quantile(present, [0, 0.25, 0.5, 0.75, 1]))
    quarters = np.clip(np.searchsorted(edges, present, side="left") - 1, 0, max(len(edges) - 2, 0))
    names = {}
    for quarter in np.unique(quarters):
        inside = present[quarters == quarter]
        bounds = (float(inside.min()), float(inside.max()))
        low, high = (f"{bound:,.0f}" if bound.is_integer() else number(bound) for bound in bounds)
        names[quarter] = (low if low == high else f"{low} to {high}") + (f" {unit}" if unit else "")
    names_in_order = iter(names[quarter] for quarter in quarters)
    return [None if value is None else next(names_in_order) for value in values]
