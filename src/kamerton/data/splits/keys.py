"""Columns of numbers that rows are grouped and stratified by: the prompt, the label, or a metadata field."""

from __future__ import annotations

import difflib
import json
from array import array
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from kamerton.data.faults import FaultLog
from kamerton.data.splits.assign import Keys, field_key, known_value
from kamerton.data.store import Index, Store
from kamerton.errors import Fault

LOOKED_AT = 100  # rows without a field, for the names of those they have


def group_keys(store: Store, rows: Index, name: str | None, log: FaultLog) -> Keys:
    """What keeps rows together: "prompt", None (each for itself) or a metadata field: [rows]."""
    if name in (None, "prompt", "label"):
        column = {None: "id", "prompt": "prompt_key", "label": "completion_key"}[name]
        found: Keys = store.column(column)[rows]
        return found
    result = np.zeros(len(rows), np.uint64)
    for place, row, value in field_values(store, rows, str(name), log):
        result[place] = field_key(value) if value is not None else row
    return result


def field_values(store: Store, rows: Index, name: str, log: FaultLog) -> Iterator[tuple[int, int, object]]:
    """`(position in rows, row, value)` of a metadata field; a row in which it is missing is a fault and has None."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    start = 0
    missing, present = array("q"), set[str]()
    for batch in store.scan("metadata"):
        low, high = np.searchsorted(ordered, [start, start + batch.num_rows])
        texts = batch.column(0).take(pa.array(ordered[low:high] - start)).to_pylist()
        for i, text in enumerate(texts, int(low)):
            fields = json.loads(text) if text else {}
            row = int(ordered[i])
            value = known_value(fields.get(name))
            if value is None:
                missing.append(row)
                if len(missing) <= LOOKED_AT:
                    present.update(fields)
            yield int(order[i]), row, value
        start += batch.num_rows
    for fault in _missing(store, missing, name, sorted(present), all_rows=len(missing) == len(rows)):
        log.add(fault)


def _missing(store: Store, rows: Sequence[int], name: str, present: list[str], *, all_rows: bool) -> Iterator[Fault]:
    """One fault for each row without the field; one in all if no row has it."""
    if rows and all_rows:
        near = difflib.get_close_matches(name, present, n=1, cutoff=0.5)
        fix = f"did you mean {near[0]}?" if near else "add it, or choose another field"
        seen = f"they have {', '.join(present[:12])}" if present else "they have none"
        message = f"no row has the metadata field {name!r}, which split uses ({seen})"
        yield Fault("missing-metadata", message, fix, store.place(rows[0])[0], column=name)
        return
    for row in rows:
        file, number = store.place(row)
        message = f"the row has nothing in the metadata field {name!r}, which split uses"
        fix = f"fill in {name}, remove the row, or choose another field"
        yield Fault("missing-metadata", message, fix, file, number, name)
