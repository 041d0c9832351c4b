"""What the columns of a row mean: from raw fields to prompt, completion and metadata.

The layout is worked out for every distinct set of columns that occurs in the data, so the whole file decides,
not its first row.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kamerton.data.options import Columns
from kamerton.errors import Fault

PROMPT_NAMES = ("prompt", "question", "query", "instruction", "input", "text")
COMPLETION_NAMES = ("completion", "response", "answer", "output", "target", "label", "category", "class")
SHOWN_COLUMNS = 12


@dataclass(frozen=True, slots=True)
class Layout:
    """Which column of a row holds what; `kind` is pair, chat or text."""

    kind: str
    prompt: str = ""
    completion: str = ""
    metadata: tuple[str, ...] = ()


def find_layout(names: Iterable[str], columns: Columns) -> Layout | list[Fault]:
    """The layout of rows with these column names, or what is missing (faults without file and row)."""
    names = list(names)
    unknown = _unknown(names, columns)
    if unknown:
        return unknown
    completion = columns.completion or columns.label
    if columns.messages or (not (columns.prompt or completion or columns.text) and "messages" in names):
        found = Layout("chat", columns.messages or "messages")
    else:
        prompt = columns.prompt or columns.text or _first(PROMPT_NAMES, names)
        completion = completion or _first(COMPLETION_NAMES, [n for n in names if n != prompt])
        if prompt is None and completion is None:
            return [_no_schema(names)]
        if completion is None and prompt == (columns.text or "text"):
            found = Layout("text", "", prompt)
        elif prompt is None or completion is None:
            what = "prompt" if prompt is None else "completion"
            return [_missing(what, names)]
        else:
            found = Layout("pair", prompt, completion)
    return Layout(found.kind, found.prompt, found.completion, _metadata(names, found, columns))


def _metadata(names: list[str], layout: Layout, columns: Columns) -> tuple[str, ...]:
    if columns.metadata is not None:
        return tuple(columns.metadata)
    return tuple(name for name in names if name not in (layout.prompt, layout.completion))


def _unknown(names: list[str], columns: Columns) -> list[Fault]:
    faults = []
    for key in ("prompt", "completion", "label", "messages", "text"):
        name = getattr(columns, key)
        if name is not None and name not in names:
            faults.append(unknown_column(name, names, f"data.columns.{key}"))
    missing = [name for name in columns.metadata or [] if name not in names]
    return faults + [unknown_column(name, names, "data.columns.metadata") for name in missing]


def unknown_column(name: str, names: list[str], key: str) -> Fault:
    """A column that the user named and the row has not, with the nearest that it has."""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    fix = f"set {key}={near[0]}" if near else f"set {key} to one of them"
    return Fault("unknown-column", f"there is no column {name!r} ({_listed(names)})", fix, column=name)


def _missing(what: str, names: list[str]) -> Fault:
    message = f"the row has no {what} ({_listed(names)})"
    fix = f"add the field {what}, or name the column that holds it: data.columns.{what}=NAME"
    return Fault("missing-field", message, fix, column=what)


def _no_schema(names: list[str]) -> Fault:
    message = f"no column is known as prompt or completion ({_listed(names)})"
    return Fault(
        "missing-field",
        message,
        "name them: data.columns.prompt=NAME data.columns.completion=NAME",
        column="prompt",
    )


def _listed(names: list[str]) -> str:
    if not names:
        return "it has no columns"
    more = f" and {len(names) - SHOWN_COLUMNS} more" if len(names) > SHOWN_COLUMNS else ""
    return "columns: " + ", ".join(map(str, names[:SHOWN_COLUMNS])) + more


def _first(candidates: Iterable[str], names: Iterable[str]) -> str | None:
    present = set(names)
    return next((name for name in candidates if name in present), None)


@dataclass(frozen=True, slots=True)
class Fields:
    """One row in the project's own terms. `prompt` is a text, the JSON of chat turns (`chat`), or None for plain text."""

    prompt: str | None
    chat: bool
    completion: str
    metadata: str | None


def to_fields(record: Mapping[str, Any], layout: Layout) -> Fields | list[Fault]:
    """The row's fields, or everything that is wrong with them."""
    if layout.kind == "chat":
        return _chat(record, layout)
    faults = []
    prompt = None
    if layout.kind == "pair":
        prompt = record.get(layout.prompt)
        faults += _text_faults(prompt, layout.prompt)
    completion = record.get(layout.completion)
    faults += _text_faults(completion, layout.completion)
    if faults:
        return faults
    return Fields(prompt, False, str(completion), _metadata_json(record, layout))


def _text_faults(value: object, column: str) -> list[Fault]:
    if value is None:
        return [
            Fault(
                "missing-field",
                f"there is no {column}",
                f"fill in {column}, or remove the row",
                column=column,
            )
        ]
    if not isinstance(value, str):
        kind = type(value).__name__
        return [
            Fault("not-a-string", f"{column} is a {kind}, not a string", "write it as text", column=column)
        ]
    if not value or value.isspace():
        return [
            Fault("empty-field", f"{column} is empty", f"fill in {column}, or remove the row", column=column)
        ]
    return []


def _chat(record: Mapping[str, Any], layout: Layout) -> Fields | list[Fault]:
    column = layout.prompt
    messages = record.get(column)
    if not isinstance(messages, list) or len(messages) < 2:
        message = f"{column} is not a list of at least two chat turns"
        return [
            Fault("bad-messages", message, 'write [{"role": "user", "content": ...}, ...]', column=column)
        ]
    faults = [fault for i, turn in enumerate(messages) for fault in _turn_faults(turn, f"{column}[{i}]")]
    if not faults and messages[-1]["role"] != "assistant":
        message = f"the last turn is by {messages[-1]['role']!r}, not by the assistant"
        faults.append(
            Fault("bad-messages", message, "end each chat with what the model must say", column=column)
        )
    if faults:
        return faults
    turns = [[turn["role"], turn["content"], _weight(turn)] for turn in messages[:-1]]
    prompt = json.dumps(turns, ensure_ascii=False, separators=(",", ":"))
    return Fields(prompt, True, messages[-1]["content"], _metadata_json(record, layout))


def _weight(turn: Mapping[str, Any]) -> float:
    """A turn's weight as OpenAI's files have it: 1 unless it says 0."""
    weight = turn.get("weight")
    return 1.0 if weight is None else float(weight)


def _turn_faults(turn: object, column: str) -> list[Fault]:
    if not isinstance(turn, dict):
        return [
            Fault(
                "bad-messages",
                "the turn is not an object",
                'write {"role": ..., "content": ...}',
                column=column,
            )
        ]
    if not isinstance(turn.get("role"), str) or not turn["role"]:
        return [
            Fault(
                "bad-messages",
                "the turn has no role",
                "add role: system, user or assistant",
                column=f"{column}.role",
            )
        ]
    faults = _text_faults(turn.get("content"), f"{column}.content")
    weight = turn.get("weight")
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        message = f"weight is {weight!r}"
        faults.append(
            Fault("bad-messages", message, "write 0 (read only) or 1 (trained on)", column=f"{column}.weight")
        )
    return faults


def _metadata_json(record: Mapping[str, Any], layout: Layout) -> str | None:
    """Everything else the row says, flat; a column `metadata` that holds an object is opened."""
    values: dict[str, Any] = {}
    for name in layout.metadata:
        value = record.get(name)
        if name == "metadata" and isinstance(value, dict):
            values.update(value)
        elif value is not None:
            values[name] = value
    return json.dumps(values, ensure_ascii=False, default=str) if values else None
