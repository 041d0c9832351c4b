"""Columns and turn fields that the model is not shown: which are listed, which are warnings, and which are errors.

Not counted are null and empty values, columns named in `data.columns.metadata`, a column `metadata`, and values that
are a shown text or a sentence of one. A word of one is counted: without its column nobody knows which is meant. All
others are listed with the schema. A field that changes the meaning of the row (`KINDS`) is an error; a field with text,
or with the name of a part of the question, is a warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kamerton.data.options import Columns
from kamerton.data.read.columns.kinds import INPUTS, KIND_OF, KINDS, PARTS, kind_of, snake_case
from kamerton.data.read.columns.layout import Layout
from kamerton.data.read.columns.propose import completion_setting, likely_completion
from kamerton.data.read.conversations.listed import turn_items
from kamerton.data.read.conversations.parts import CONTENT, unread_part
from kamerton.data.read.conversations.roles import TURN_KEYS, is_turn, unwrap_turn
from kamerton.data.read.text import is_blank
from kamerton.errors import Fault
from kamerton.shell import setting

CODE = "unused-field"
JOIN = "\\n\\n"  # as a template writes a blank line
MAX_ROWS = 3  # named in a fault
MAX_NAMES = 20  # in one message; `run.json` has all


@dataclass
class Unused:
    """Statistics of a field: rows with a value, rows with a text, rows whose meaning changes without it.

    `column` is True for a column, False for a field of turns. `places` are the first rows, all of `file`.
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
class UnusedValue:
    """A field of a row that is not shown. `kind` is a key of KINDS if the row's meaning changes without it."""

    name: str
    value: object
    kind: str
    column: bool = True


def unused_values(record: Mapping[str, Any], layout: Layout, columns: Columns, *, alone: bool) -> Iterator[UnusedValue]:
    """Yield the unused columns of a row that are not empty, and the unread fields of its turns.

    `alone`: the row is read as plain text without a setting that says so.
    """
    texts: list[str] | None = None
    for name in layout.unused:
        value = record[name]
        if not is_empty(value):
            kind = kind_of(name, value, columns, alone)
            if texts is None:
                texts = [text for shown in layout.shown for text in _strings(record.get(shown))]
            if kind in ("", "turns") and _is_shown(value, texts):
                continue
            yield UnusedValue(name, value, kind)
    for name in (*layout.turns, *([layout.prompt_column] if layout.prompt_column else [])):
        turns = record.get(name)
        if isinstance(turns, str):
            continue
        if isinstance(turns, Mapping) and not is_turn(turns):
            for key, value in _other_items(turns, "messages"):
                yield UnusedValue(f"{name}.{key}", value, kind_of(key, value, columns, False), False)
            turns = turns.get("messages")
        if isinstance(turns, list | Mapping):
            yield from _turn_values(turns if isinstance(turns, list) else [turns], name, columns)


def _other_items(value: Mapping[str, Any], *names: str) -> Iterator[tuple[str, Any]]:
    return ((name, inner) for name, inner in value.items() if name not in names and not is_empty(inner))


def _turn_values(turns: list[Any], column: str, columns: Columns) -> Iterator[UnusedValue]:
    """Yield the fields of turns that are not read, each once."""
    yielded = set()
    for _, turn in turn_items(turns, column):
        if type(turn) is dict and TURN_KEYS.issuperset(turn) and type(turn.get("content", turn.get("value"))) is str:
            continue  # nearly all turns
        if not isinstance(turn, Mapping):
            continue
        turn = unwrap_turn(turn)
        fields = [
            (name, value, kind_of(name, value, columns, False))
            for name, value in turn.items()
            if name not in TURN_KEYS and not is_empty(value)
        ]
        content = next((turn[name] for name in CONTENT if turn.get(name) is not None), None)
        for part in content if isinstance(content, list) else ():
            if name := unread_part(part):
                fields.append((f"content.{name}", part, KIND_OF.get(PARTS.get(name, name), "")))
        for name, value, kind in fields:
            if name not in yielded:
                yielded.add(name)
                yield UnusedValue(f"{column}[].{name}", value, kind, False)


def is_empty(value: object) -> bool:
    """Return whether a value is missing, or the text of an empty list or object."""
    return is_blank(value) or (isinstance(value, str) and value.strip().lower() in ("[]", "{}", "null", "none"))


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
    """Return whether the shown texts contain the value, or the value all of them (a prompt with its answer)."""
    strings = list(_strings(value))
    if not strings or not texts:
        return False
    if all(any(_repeats(string.strip(), text) for text in texts) for string in strings):
        return True
    return len(strings) == 1 and all(text.strip() in strings[0] for text in texts)


def _repeats(part: str, text: str) -> bool:
    return part in text if _is_sentence(part) else part == text.strip()


def _is_sentence(text: str) -> bool:
    """Return whether a text has at least 20 characters and three words."""
    return len(text) >= 20 and len(text.split(None, 3)) >= 3


def count_value(counts: dict[str, Unused], value: UnusedValue, file: str, row: int) -> None:
    """Add a value to the statistics of its field in `counts`."""
    stats = counts.setdefault(value.name, Unused())
    stats.rows += 1
    stats.texts += any(map(_is_sentence, _strings(value.value)))  # also within a list or an object
    stats.column, stats.form = value.column, type(value.value).__name__
    if isinstance(value.value, list) and any(isinstance(item, Mapping | list) for item in value.value):
        stats.form = "objects"
    stats.misleading += bool(value.kind)
    if value.kind and stats.kind != value.kind:
        stats.kind, stats.file, stats.places = value.kind, file, []
    if (value.kind or not stats.kind) and len(stats.places) < MAX_ROWS:
        stats.file = stats.file or file
        if stats.file == file:
            stats.places.append(row)


def unused_faults(
    counts: Mapping[str, Unused], used: Sequence[str | None], text: str, prompt: str, total: int
) -> Iterator[tuple[Fault, bool]]:
    """Yield one fault for each kind of field, and whether the meaning of rows changes without it.

    `used` are metadata fields that the configuration names elsewhere; `text` is the column of plain text, `prompt` the
    template of the prompt ("" of chat turns); `total` is the number of all rows.
    """
    columns = [name for name, stats in counts.items() if stats.column]
    for kind, about in KINDS.items():
        fields = {name: stats for name, stats in counts.items() if stats.kind == kind}
        if not fields:
            continue
        fixes = [_answer_fix(fields, text)] if kind == "answer" else [about.fix]
        misleading = {name: stats.misleading for name, stats in fields.items()}
        if max(misleading.values()) < total:
            fixes.append(f"leave such rows out: data.policy.{CODE}=drop")
        if kind != "media":
            fixes.append(_ignore_fix(fields, columns))
        message = f"{list_counts(misleading)}: {about.what}"
        yield _fault(message, "; or ".join(filter(None, fixes)), fields), True
    texts = {}
    for name, stats in counts.items():
        key = snake_case(name)
        is_text = key in INPUTS or 2 * stats.texts > stats.rows
        if not stats.kind and name not in used and key not in KIND_OF and is_text:
            texts[name] = stats
    if texts:
        message = (
            f"{list_counts({name: stats.rows for name, stats in texts.items()})}: text that the model is not shown"
        )
        fix = f"{_prompt_fix(texts, prompt)}; or {_ignore_fix(texts, columns)}"
        yield _fault(message, fix, texts), False


def _fault(message: str, fix: str, fields: Mapping[str, Unused]) -> Fault:
    name, stats = next(iter(fields.items()))
    rows = stats.places
    more = f" (first rows: {', '.join(map(str, rows))})" if len(rows) > 1 else ""
    return Fault(CODE, message + more, fix, stats.file, rows[0] if rows else None, name)


def _ignore_fix(fields: Mapping[str, Unused], columns: Sequence[str]) -> str:
    """Return the setting that keeps all unused `columns` as metadata, or the one that ignores fields of turns."""
    if all(stats.column for stats in fields.values()):
        return f"keep as metadata, unseen: {keep_setting(columns)}"
    return f"ignore: data.policy.{CODE}=warn"


def _prompt_fix(fields: Mapping[str, Unused], prompt: str) -> str:
    """Return the setting that writes columns before the prompt, if their names are those of a part of it."""
    names = [name for name, stats in fields.items() if snake_case(name) in INPUTS and stats.form in ("str", "list")]
    if len(names) == len(fields) == 1 and (names[0] == "persona" or (not prompt and fields[names[0]].form == "str")):
        return f"add {setting('data.system', f'{{{names[0]}}}')}"
    if not names or not prompt:
        return f"write {'it' if len(fields) == 1 else 'them'} into the prompt"
    before = [f"{{{name}{':lines' * (fields[name].form == 'list')}?}}" for name in names]
    return f"add {setting('data.prompt', JOIN.join([*before, prompt]))}"


def _answer_fix(fields: Mapping[str, Unused], text: str) -> str:
    """Return the settings that train on a column beside the text as its answer, or on the text alone."""
    plain = f"add {setting('data.columns.text', text)} (trains on the text alone)"
    name = likely_completion(list(fields))
    value: object = {"str": "", "list": [""], "dict": {}, "objects": {}}.get(fields[name].form, 0)
    return f"add {completion_setting(name, [value])} (trains on {name} as the answer); or {plain}"


def keep_setting(names: Sequence[str]) -> str:
    """Return the setting that keeps these columns as metadata, for a shell."""
    inner = ",".join(name if re.fullmatch(r"[A-Za-z_][\w-]*", name) else f'"{name}"' for name in names)
    return f"'data.columns.metadata=[{inner}]'"


def quote_column(name: str) -> str:
    """Return a column's name as a value on the command line."""
    return name if re.fullmatch(r"[A-Za-z_][\w-]*", name) else f"'\"{name}\"'"


def list_counts(counts: Mapping[str, int]) -> str:
    """Return `context (59 rows), tools (3 rows)`, at most `MAX_NAMES` of them and the number of further ones."""
    first = [f"{name or repr(name)} ({count:,} row{'s' if count > 1 else ''})" for name, count in counts.items()][
        :MAX_NAMES
    ]
    more = len(counts) - len(first)
    return ", ".join(first) + (f", and {more:,} more" if more else "")
