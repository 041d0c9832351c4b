"""Keys for grouping and stratifying rows: the prompt, the label, or a metadata field."""

from __future__ import annotations

import difflib
import json
from array import array
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from kamerton.data.faults import FaultLog
from kamerton.data.splits.assign import Keys, field_key, present_value
from kamerton.data.store import Index, Store
from kamerton.errors import Fault

MAX_SAMPLED = 100  # rows without the field whose other field names are collected for the message


def group_keys(store: Store, rows: Index, name: str | None, log: FaultLog) -> Keys:
    """Return the group key of each row, by "prompt", "label", a metadata field, or None (each row alone): [rows]."""
    if name in (None, "prompt", "label"):
        column = {None: "id", "prompt": "prompt_key", "label": "completion_key"}[name]
        keys: Keys = store.column(column)[rows]
        return keys
    result = np.zeros(len(rows), np.uint64)
    for position, row, value in field_values(store, rows, str(name), log):
        result[position] = field_key(value) if value is not None else row
    return result


def strata_keys(store: Store, rows: Index, name: str | None, kind: str, log: FaultLog) -> Keys | None:
    """Return the stratum of each row, by "label" or a metadata field: [rows]; None without a name.

    `kind` is `DataOptions.rows`: the label of a judgement is whether the completion is desired, and several completions
    of a prompt are a stratum of their own. Preferences have no label, which is a fault.
    """
    if name is None:
        return None
    if name != "label" or kind in ("completions", "prompts"):
        return group_keys(store, rows, name, log)
    if kind == "preferences":
        message = "split.stratify is label, and preferences have no labels"
        fix = "set split.stratify=null, or a metadata field: split.stratify=NAME"
        log.add(Fault("bad-value", message, fix, column="split.stratify"))
        return None
    extras = map(json.loads, store.take("extras", rows).to_pylist())
    return np.array([2 if row["alternatives"] else int(row["score"] > 0) for row in extras], np.uint64)


def field_values(store: Store, rows: Index, name: str, log: FaultLog) -> Iterator[tuple[int, int, object]]:
    """Yield `(position in rows, row, value)` of a metadata field; for a row without it, log a fault and yield None."""
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
            value = present_value(fields.get(name))
            if value is None:
                missing.append(row)
                if len(missing) <= MAX_SAMPLED:
                    present.update(fields)
            yield int(order[i]), row, value
        start += batch.num_rows
    for fault in _missing_faults(store, missing, name, sorted(present), all_rows=len(missing) == len(rows)):
        log.add(fault)


def _missing_faults(
    store: Store, rows: Sequence[int], name: str, present: list[str], *, all_rows: bool
) -> Iterator[Fault]:
    """Yield one fault for each row without the field, or a single fault if no row has it."""
    if rows and all_rows:
        near = difflib.get_close_matches(name, present, n=1, cutoff=0.5)
        fix = f"did you mean {near[0]}?" if near else "add it, or choose another field"
        seen = f"they have {', '.join(present[:12])}" if present else "they have none"
        message = f"no row has the metadata field {name!r}, which split uses ({seen})"
        yield Fault("missing-metadata", message, fix, store.location(rows[0])[0], column=name)
        return
    for row in rows:
        file, number = store.location(row)
        message = f"the row has no value in the metadata field {name!r}, which split uses"
        fix = f"fill in {name}, remove the row, or choose another field"
        yield Fault("missing-metadata", message, fix, file, number, name)
