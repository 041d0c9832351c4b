"""One pass over all files: raw rows become checked rows of the store, and every fault gets its place."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

from kamerton.data.faults import FaultLog
from kamerton.data.options import DataOptions
from kamerton.data.read import read_rows
from kamerton.data.schema import Fields, Layout, find_layout, to_fields
from kamerton.data.sources import SPLITS, Source
from kamerton.data.store import hash64, prompt_key, row_id
from kamerton.errors import Fault


def ingest(
    sources: list[Source], options: DataOptions, log: FaultLog, counts: Counter[str]
) -> Iterator[tuple[Any, ...]]:
    """The values of `store.SCHEMA` for each good row; faults go to `log`, `counts["lines"]` counts all rows."""
    layouts: dict[tuple[str, ...], Layout | list[Fault]] = {}
    for number, source in enumerate(sources):
        file = str(source.path)
        place = number | (SPLITS.index(source.split) << 16 if source.split else 0)
        seen = False
        for row, record in read_rows(source.path, options.format, options.encoding):
            seen = True
            counts["lines"] += row > 0
            if isinstance(record, Fault):
                log.add(dataclasses.replace(record, row=row or None))
                continue
            names = tuple(record)
            layout = layouts.get(names)
            if layout is None:
                layout = layouts[names] = find_layout(names, options.columns)
            found = layout if isinstance(layout, list) else to_fields(record, layout)
            if isinstance(found, Fields):
                yield _values(found, place, row)
            else:
                log.extend(dataclasses.replace(fault, file=file, row=row) for fault in found)
        if not seen:
            log.add(Fault("empty-file", "the file has no rows", "point to a file with rows", file))


def _values(fields: Fields, source: int, row: int) -> tuple[Any, ...]:
    prompt, completion = fields.prompt, fields.completion
    return (
        row_id(prompt, fields.chat, completion),
        prompt,
        fields.chat,
        completion,
        fields.metadata,
        prompt_key(prompt if prompt is not None else completion),
        hash64(completion.encode()),
        source,
        row,
    )
