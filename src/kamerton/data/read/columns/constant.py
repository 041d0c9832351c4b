"""Columns with one value in all rows, such as a source, a license or a language: not what is learnt, or asked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from kamerton.data.options import Columns
from kamerton.data.read.columns.kinds import may_hold
from kamerton.data.read.columns.layout import Layout
from kamerton.data.read.columns.propose import propose, template_settings, unclear
from kamerton.data.read.text import is_blank
from kamerton.errors import Fault
from kamerton.shell import setting

Record = Mapping[str, Any]
Records = Callable[[], Iterable[Record]]
MIN_ROWS = 6  # with a value; fewer may be equal by chance


def constant_columns(names: Iterable[str], head: Sequence[Record], records: Records) -> set[str]:
    """Return which of the columns have one value, a text or a number, in all rows that have any.

    `head` are the first rows; `records` yields all of them, and is called only if a column is constant among the first:
    a file may be sorted by its labels.
    """
    values: dict[str, object] = {}
    for name in names:
        filled = [record[name] for record in head if not is_blank(record.get(name))]
        is_scalar = bool(filled) and isinstance(filled[0], str | int | float)
        if is_scalar and len(filled) >= MIN_ROWS and all(value == filled[0] for value in filled):
            values[name] = filled[0]
    for record in records() if values else ():
        changed = [n for n, value in values.items() if not is_blank(record.get(n)) and record[n] != value]
        for name in changed:
            del values[name]
        if not values:
            break
    return set(values)


def without_columns(head: Sequence[Record], names: Collection[str]) -> list[Record]:
    """Return the rows without these columns."""
    return [{name: value for name, value in record.items() if name not in names} for record in head]


def constant_fault(layout: Layout, columns: Columns, head: Sequence[Record], records: Records) -> Fault | None:
    """Return the fault of a pair whose prompt or completion is a constant column, if another column may be it.

    None for other layouts, and for columns that the configuration names.
    """
    if layout.kind != "pair":
        return None
    named = (columns.prompt, columns.text, columns.completion, columns.label)
    chosen = [name for name in (layout.prompt, layout.completion) if name not in named]
    names = dict.fromkeys(name for record in head for name in record)
    likely = constant_columns(chosen, head, list)
    if not likely or not _ways(layout, constant_columns(names, head, list), head):
        return None
    constant = constant_columns(names, head, records)
    if not (found := [name for name in chosen if name in constant]):
        return None
    ways = _ways(layout, constant, head)
    value = next(record[found[0]] for record in head if not is_blank(record.get(found[0])))
    message = f"{found[0]} is {str(value)[:40]!r} in all rows, and another column may be the "
    message += "completion" if found[0] == layout.completion else "prompt"
    return unclear(message, ways, found[0]) if ways else None


def _ways(layout: Layout, constant: Collection[str], head: Sequence[Record]) -> list[tuple[str, str]]:
    """Return the settings that read other columns, and those that read the constant column all the same."""
    varied = without_columns(head, constant)
    if layout.completion in constant:
        prompt = None if layout.prompt in constant else layout.prompt
        proposed = propose(varied, prompt, None)
        kept = setting("data.columns.completion", layout.completion)
        return [(proposed, ""), (kept, f"trains on {layout.completion} all the same")] if proposed else []
    sample: dict[str, object] = {}
    for record in varied:
        sample |= {name: value for name, value in record.items() if name not in sample and not is_blank(value)}
    others = [
        name
        for name, value in sample.items()
        if name != layout.completion and isinstance(value, str) and may_hold("prompt", name, value)
    ]
    if not others:
        return []
    fields = [f"{{{others[0]}}}"] if len(others) == 1 else [f"{name}: {{{name}}}" for name in others]
    both = template_settings("\\n".join([f"{{{layout.prompt}}}\\n", *fields]).replace("\n", "\\n"), None)
    kept = setting("data.columns.prompt", layout.prompt)
    return [(both, "writes both"), (kept, f"{layout.prompt} alone")]
