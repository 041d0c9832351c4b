"""Columns and turn fields that the model is not shown: what is listed, what is warned of, and what is an error.

Null and empty values never count, nor do columns that are named in `data.columns.metadata`, a column `metadata`, and
values whose text the row shows anyway. All others are listed with the schema. A field that makes the row mean
something else (`KINDS`) is an error; one that holds text, or is known to hold a part of the question, is warned of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kamerton.data.options import Columns
from kamerton.data.read.chat import CONTENT, TURN_KEYS, part_type, text_of_part, tool_role
from kamerton.data.read.kinds import INPUTS, KIND_OF, KINDS, PARTS, kind_of, snake
from kamerton.errors import Fault

CODE = "unused-field"
PLACES = 3  # rows that a fault names


@dataclass
class Unused:
    """What was seen of one field: rows with a value, rows whose value is text, rows that mean something else.

    `column`: it is a column, not a field of turns. `places` are the first rows, all of `file`.
    """

    rows: int = 0
    texts: int = 0
    misleading: int = 0
    column: bool = True
    form: str = ""  # str, int, list, ...: the type of the last value
    kind: str = ""
    file: str = ""
    places: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Value:
    """A field of one row that is not shown. `kind` is one of KINDS where the row means something else without it."""

    name: str
    value: object
    kind: str
    column: bool = True


def unused_values(
    record: Mapping[str, Any], names: Sequence[str], shown: Sequence[str], columns: Columns, *, alone: bool
) -> Iterator[Value]:
    """Yield the columns `names` of a row that hold something, and the fields of its turns, which stand in columns `shown`.

    `alone`: the row is taken for plain text, and nobody said so.
    """
    texts = [text for name in shown for text in _strings(record.get(name))]
    for name in names:
        value = record[name]
        if not is_empty(value):
            kind = kind_of(name, value, columns, alone)
            if kind in ("", "turns") and _is_shown(value, texts):
                continue
            yield Value(name, value, kind)
    for name in shown:
        turns = record.get(name)
        if isinstance(turns, Mapping):
            yield from (
                Value(f"{name}.{k}", v, kind_of(k, v, columns, False), False) for k, v in _rest(turns, "messages")
            )
            turns = turns.get("messages")
        if isinstance(turns, list):
            yield from _of_turns(turns, name, columns)


def _rest(value: Mapping[str, Any], *known: str) -> Iterator[tuple[str, Any]]:
    return ((name, inner) for name, inner in value.items() if name not in known and not is_empty(inner))


def _of_turns(turns: list[Any], column: str, columns: Columns) -> Iterator[Value]:
    """Yield the fields of turns that are not read, each once."""
    told = set()
    for turn in turns:
        if not isinstance(turn, Mapping):
            continue
        fields = [(name, value, kind_of(name, value, columns, False)) for name, value in _rest(turn, *TURN_KEYS)]
        if (role := tool_role(turn)) is not None:
            fields.append((f"role={role}", role, "tools"))
        content = next((turn[name] for name in CONTENT if turn.get(name) is not None), None)
        for part in content if isinstance(content, list) else ():
            if text_of_part(part) is None and (name := part_type(part)):
                fields.append((f"content.{name}", part, KIND_OF.get(PARTS.get(name, name), "")))
        for name, value, kind in fields:
            if name not in told:
                told.add(name)
                yield Value(f"{column}[].{name}", value, kind, False)


def is_empty(value: object) -> bool:
    """Return Null, NaN, blank, or nothing but such values."""
    if isinstance(value, str):
        return value.strip().lower() in ("", "[]", "{}", "null", "none")
    if isinstance(value, Mapping):
        return all(is_empty(inner) for inner in value.values())
    if isinstance(value, list | tuple):
        return all(is_empty(inner) for inner in value)
    return value is None or value != value  # noqa: PLR0124 - NaN


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)


def _is_shown(value: object, texts: Sequence[str]) -> bool:
    """Return whether the row's own texts hold the value, or the value is made of them (a prompt with its answer)."""
    own = list(_strings(value))
    if not own or not texts:
        return False
    return all(any(text.strip() in other for other in texts) for text in own) or (
        len(own) == 1 and all(text.strip() in own[0] for text in texts)
    )


def _is_text(value: object) -> bool:
    """Return a sentence, also within a list or an object: at least 20 characters and three words."""
    return any(len(text) >= 20 and len(text.split(None, 3)) >= 3 for text in _strings(value))


def note(seen: dict[str, Unused], value: Value, file: str, row: int) -> None:
    """Count a value among what was seen."""
    about = seen.setdefault(value.name, Unused())
    about.rows += 1
    about.texts += _is_text(value.value)
    about.column, about.form = value.column, type(value.value).__name__
    about.misleading += bool(value.kind)
    if value.kind and about.kind != value.kind:
        about.kind, about.file, about.places = value.kind, file, []
    if (value.kind or not about.kind) and len(about.places) < PLACES:
        about.file = about.file or file
        if about.file == file:
            about.places.append(row)


def unused_faults(
    seen: Mapping[str, Unused], used: Sequence[str | None], text: str, total: int
) -> Iterator[tuple[Fault, bool]]:
    """Yield one fault for each kind of field, and whether rows mean something else without it.

    `used` are metadata fields that the configuration names elsewhere; `text` is the column of plain text; `total` are
    all rows.
    """
    kept = [name for name, about in seen.items() if about.column]
    for kind, about in KINDS.items():
        names = {name: one for name, one in seen.items() if one.kind == kind}
        if not names:
            continue
        ways = [_answer_fix(names, text)] if kind == "answer" else [about.fix]
        if max(one.misleading for one in names.values()) < total:
            ways.append(f"leave such rows out: data.policy.{CODE}=drop")
        ways.append(_way_on(names, kept))
        message = f"{listed({name: one.misleading for name, one in names.items()})}: {about.what}"
        yield _fault(message, "; or ".join(filter(None, ways)), names), True
    texts = {name: one for name, one in seen.items() if not one.kind and name not in used and _is_warned(name, one)}
    if texts:
        message = f"{listed({name: one.rows for name, one in texts.items()})}: text that the model is not shown"
        fix = f"write {'it' if len(texts) == 1 else 'them'} into the prompt; or {_way_on(texts, kept)}"
        yield _fault(message, fix, texts), False


def _is_warned(name: str, about: Unused) -> bool:
    own = snake(name)
    return own not in KIND_OF and (own in INPUTS or 2 * about.texts > about.rows)


def _fault(message: str, fix: str, names: Mapping[str, Unused]) -> Fault:
    first = next(iter(names))
    places = names[first].places
    more = f" (first rows: {', '.join(map(str, places))})" if len(places) > 1 else ""
    return Fault(CODE, message + more, fix, names[first].file, places[0] if places else None, first)


def _way_on(names: Mapping[str, Unused], kept: Sequence[str]) -> str:
    """Return how columns are kept as metadata, with all that are kept now; or how fields of turns are passed over."""
    if all(about.column for about in names.values()):
        return f"keep as metadata, unseen: {keep_setting(kept)}"
    return f"go on without: data.policy.{CODE}=warn"


def _answer_fix(names: Mapping[str, Unused], text: str) -> str:
    plain = f"data.columns.text={quoted(text)} trains on the text alone"
    single = [name for name, about in names.items() if about.form != "list"]
    if not single:
        return f"{plain}; to learn a list, write it as one text"
    setting = f"data.columns.prompt={quoted(text)} data.columns.completion={quoted(single[0])}"
    if names[single[0]].form != "str":
        setting += " data.policy.not-a-string=fix"
    return f"{setting} learns to answer with it; {plain}"


def keep_setting(names: Sequence[str]) -> str:
    """Return the setting that keeps these columns as metadata, for a shell."""
    inner = ",".join(name if re.fullmatch(r"[A-Za-z_][\w-]*", name) else f'"{name}"' for name in names)
    return f"'data.columns.metadata=[{inner}]'"


def quoted(name: str) -> str:
    """Return a column's name as a value on the command line."""
    return name if re.fullmatch(r"[A-Za-z_][\w-]*", name) else f"'\"{name}\"'"


def listed(counts: Mapping[str, int]) -> str:
    """Return `context (59 rows), tools (3 rows)`."""
    return ", ".join(
        f"{name or repr(name)} ({count:,} row{'s' if count > 1 else ''})" for name, count in counts.items()
    )
