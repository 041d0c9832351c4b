"""What the columns of a row mean: from raw fields to prompt, completion and metadata.

The layout is worked out for every set of columns that occurs in a file; which schema the file has is decided by all its
rows together (`kamerton.data.read.ingest`), not by the first.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kamerton.data.options import Columns
from kamerton.data.read.chat import chat_fields
from kamerton.data.read.kinds import may_be
from kamerton.data.read.text import Action, checked
from kamerton.errors import Fault
from kamerton.shell import setting

PROMPT_NAMES = ("prompt", "question", "query", "instruction", "input", "text", "sentence")
COMPLETION_NAMES = ("completion", "response", "answer", "output", "target", "label", "category", "class", "intent")
CHAT_NAMES = ("messages", "conversations", "conversation")
SHOWN_COLUMNS = 12


@dataclass(frozen=True, slots=True)
class Layout:
    """Which column of a row holds what; `kind` is pair, alpaca, chat or text (no prompt: every token is trained on)."""

    kind: str
    prompt: str = ""
    completion: str = ""
    context: str = ""  # alpaca: the second half of the prompt
    metadata: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()  # columns that are nothing of this, and that nobody named as metadata

    @property
    def shown(self) -> tuple[str, ...]:
        """The columns that the model is shown."""
        return tuple(name for name in (self.prompt, self.completion, self.context) if name)

    @property
    def schema(self) -> str:
        """The schema in words; rows are of one schema if and only if these are equal."""
        used = [name for name in (self.prompt, self.completion) if name]
        return f"{self.kind} ({', '.join(used)})"


@dataclass(frozen=True, slots=True)
class Fields:
    """One row in the project's terms. `prompt`: a text, the JSON of chat turns (`chat`), or None for plain text."""

    prompt: str | None
    chat: bool
    completion: str
    metadata: str | None


def find_layout(names: Iterable[str], columns: Columns) -> Layout | Fault:
    """Return the layout of rows with these columns, or what is missing."""
    present = list(names)
    for key in ("prompt", "completion", "label", "messages", "text"):
        name = getattr(columns, key)
        if name is not None and name not in present:
            return unknown_column(name, present, f"data.columns.{key}")
    found = _find(present, columns)
    if isinstance(found, Fault):
        return found
    rest = [name for name in present if name not in found.shown]
    metadata = columns.metadata if columns.metadata is not None else rest
    named = ["metadata", *(columns.metadata or [])]
    unused = tuple(name for name in rest if name not in named)
    return replace(found, metadata=tuple(metadata), unused=unused)


def _find(present: list[str], columns: Columns) -> Layout | Fault:
    prompt, completion = columns.prompt or columns.text, columns.completion or columns.label
    named = prompt or completion
    chat = columns.messages or (None if named else _first(CHAT_NAMES, present))
    if chat:
        return Layout("chat", chat)
    if not named and "instruction" in present and "output" in present:
        return Layout("alpaca", "instruction", "output", "input" if "input" in present else "")
    prompt = prompt or _first(PROMPT_NAMES, [name for name in present if name != completion])
    completion = completion or _first(COMPLETION_NAMES, [name for name in present if name != prompt])
    if completion is None and prompt is not None and prompt == (columns.text or "text"):
        return Layout("text", "", prompt)
    if prompt is None or completion is None:
        return _missing("prompt" if prompt is None else "completion", present)
    return Layout("pair", prompt, completion)


def unknown_column(name: str, present: list[str], key: str) -> Fault:
    """Return a column that the user named and the row has not, with the nearest that it has."""
    near = difflib.get_close_matches(name, present, n=1, cutoff=0.5)
    fix = f"set {setting(key, near[0])}" if near else f"set {key} to one of them"
    return Fault("unknown-column", f"there is no column {name!r} ({listed(present)})", fix, column=name)


def _missing(what: str, present: list[str]) -> Fault:
    message = f"the row has no {what} ({listed(present)})"
    fix = f"add the field {what}, or name the column that holds it: data.columns.{what}=NAME"
    return Fault("missing-field", message, fix, column=what)


def nowhere(fault: Fault, sample: Mapping[str, Any], columns: Columns, format: str) -> Fault:
    """Return what no row of a file has, said once for all of them: most are like `sample`, and the fix uses its columns."""
    if fault.code != "missing-field":
        return fault
    fix, names = fault.fix, list(sample)
    prompt = columns.prompt or columns.text or _first(PROMPT_NAMES, list(names))
    completion = columns.completion or columns.label or _first(COMPLETION_NAMES, [n for n in names if n != prompt])
    lacking = [what for what, name in (("prompt", prompt), ("completion", completion)) if name is None]
    free = [n for n in names if n not in (prompt, completion) and may_be("".join(lacking[:1]), n, sample[n])]
    if len(free) == len(lacking):
        fix = "name the columns: " + " ".join(
            setting(f"data.columns.{what}", name) for what, name in zip(lacking, free, strict=True)
        )
    if format == "csv":
        fix += " or, if the first line is data, write a header above it: prompt,completion"
    return replace(fault, message=fault.message.replace("the row has no", "no row has a", 1), fix=fix)


def listed(names: list[str]) -> str:
    """Return Column names for a message."""
    if not names:
        return "it has no columns"
    more = f" and {len(names) - SHOWN_COLUMNS} more" if len(names) > SHOWN_COLUMNS else ""
    return "columns: " + ", ".join(name[:40] for name in names[:SHOWN_COLUMNS]) + more


def _first(candidates: Iterable[str], present: list[str]) -> str | None:
    return next((name for name in candidates if name in present), None)


def to_fields(record: Mapping[str, Any], layout: Layout, action: Action) -> tuple[Fields | None, list[Fault]]:
    """Return the row's fields (None if they cannot be used), and everything that is wrong with them."""
    prompt = turns_of(record.get(layout.prompt))
    if layout.kind == "chat" or (layout.kind == "pair" and isinstance(prompt, list)):
        return _from_chat(record, layout, action)
    faults: list[Fault] = []
    text = None
    if layout.kind != "text":
        text, faults = checked(prompt, layout.prompt, action)
    completion, found = checked(record.get(layout.completion), layout.completion, action)
    faults += found
    if layout.kind == "alpaca" and record.get(layout.context) not in (None, ""):
        context, found = checked(record[layout.context], layout.context, action)
        faults += found
        text = f"{text}\n\n{context}" if text is not None and context is not None else None
    if completion is None or (text is None and layout.kind != "text"):
        return None, faults
    return Fields(text, False, completion, _metadata(record, layout)), faults


def _from_chat(record: Mapping[str, Any], layout: Layout, action: Action) -> tuple[Fields | None, list[Fault]]:
    """Return a row of chat turns; in a pair of turn lists the completion's turns follow the prompt's."""
    turns = turns_of(record.get(layout.prompt))
    if layout.kind == "pair" and isinstance(turns, list):
        last = record.get(layout.completion)
        turns = turns + (last if isinstance(last, list) else [{"role": "assistant", "content": last}])
    found, faults = chat_fields(turns, layout.prompt, action)
    if found is None:
        return None, faults
    return Fields(found[0], True, found[1], _metadata(record, layout)), faults


def turns_of(value: object) -> object:
    """Return the turns of OpenAI's `{"messages": [...]}`; any other value as it is."""
    return value["messages"] if isinstance(value, Mapping) and isinstance(value.get("messages"), list) else value


def _metadata(record: Mapping[str, Any], layout: Layout) -> str | None:
    """Return everything else the row says, flat.

    A column `metadata` that holds an object is opened; a name in it that is a column as well becomes `metadata.NAME`.
    """
    values = {name: record[name] for name in layout.metadata if record.get(name) is not None}
    if isinstance(values.get("metadata"), Mapping):
        inner = values.pop("metadata")
        values |= {f"metadata.{name}" if name in values else name: value for name, value in inner.items()}
    return json.dumps(values, default=str) if values else None
