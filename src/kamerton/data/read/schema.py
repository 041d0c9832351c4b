"""The roles of columns: from raw fields to prompt, completion and metadata.

The layout is determined for every set of columns that occurs in a file; the schema of the file is determined by all
its rows together (`kamerton.data.read.ingest`), not by the first.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kamerton.data.options import Columns
from kamerton.data.read.chat import Further, chat_fields, is_dropped
from kamerton.data.read.further import answer_fields, find_further, read_further
from kamerton.data.read.kinds import may_hold
from kamerton.data.read.text import Action, check_text
from kamerton.errors import Fault
from kamerton.shell import setting

PROMPT_NAMES = ("prompt", "question", "query", "instruction", "input", "text", "sentence")
COMPLETION_NAMES = ("completion", "response", "answer", "output", "target", "label", "category", "class", "intent")
CHAT_NAMES = ("messages", "conversations", "conversation")
MAX_COLUMNS = 12  # in a message


@dataclass(frozen=True, slots=True)
class Layout:
    """The roles of a row's columns; `kind` is pair, alpaca, chat or text (no prompt: every token is trained on)."""

    kind: str
    prompt: str = ""
    completion: str = ""
    context: str = ""  # alpaca: the second half of the prompt
    tools: str = ""  # definitions of functions
    reasoning: str = ""  # before the completion
    weight: str = ""  # of the row in the loss
    metadata: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()  # columns without a role that are not configured as metadata

    @property
    def shown(self) -> tuple[str, ...]:
        """The columns that the model is shown."""
        return tuple(name for name in (self.prompt, self.completion, self.context, self.tools, self.reasoning) if name)

    @property
    def schema(self) -> str:
        """A name of the schema; two rows have the same schema if and only if their names are equal."""
        used = [name for name in (self.prompt, self.completion) if name]
        return f"{self.kind} ({', '.join(used)})"


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a row. `prompt` is a text, the JSON of chat turns (with `chat`), or None for plain text.

    `extras` are those of `kamerton.data.store`: reasoning, calls, tools and weight.
    """

    prompt: str | None
    chat: bool
    completion: str
    metadata: str | None
    extras: str | None = None


def find_layout(names: Iterable[str], columns: Columns) -> Layout | Fault:
    """Return the layout of rows with these columns, or a fault for a missing column."""
    present = list(names)
    for key in ("prompt", "completion", "label", "messages", "text"):
        name = getattr(columns, key)
        if name is not None and name not in present:
            return unknown_column_fault(name, present, f"data.columns.{key}")
    layout = _find_roles(present, columns)
    if isinstance(layout, Fault):
        return layout
    tools, reasoning, weight = find_further(layout.kind, present, layout.shown, columns)
    layout = replace(layout, tools=tools, reasoning=reasoning, weight=weight)
    rest = [name for name in present if name not in (*layout.shown, layout.weight)]
    metadata = columns.metadata if columns.metadata is not None else rest
    kept = ["metadata", *(columns.metadata or [])]
    unused = tuple(name for name in rest if name not in kept)
    return replace(layout, metadata=tuple(metadata), unused=unused)


def _find_roles(present: list[str], columns: Columns) -> Layout | Fault:
    """Return the layout by the configured columns, otherwise by the usual names, without metadata."""
    prompt = columns.prompt or columns.text
    completion = columns.completion or columns.label
    if columns.messages:
        return Layout("chat", columns.messages)
    if not prompt and not completion:
        chat = _first(CHAT_NAMES, present)
        if chat:
            return Layout("chat", chat)
        if "instruction" in present and "output" in present:
            return Layout("alpaca", "instruction", "output", "input" if "input" in present else "")
    if not prompt:
        prompt = _first(PROMPT_NAMES, [name for name in present if name != completion])
    if not completion:
        completion = _first(COMPLETION_NAMES, [name for name in present if name != prompt])
    if prompt and completion:
        return Layout("pair", prompt, completion)
    if prompt and prompt == (columns.text or "text"):
        return Layout("text", "", prompt)
    role = "completion" if prompt else "prompt"
    message = f"the row has no {role} ({list_columns(present)})"
    fix = f"add the field {role}, or name the column that contains it: data.columns.{role}=NAME"
    return Fault("missing-field", message, fix, column=role)


def unknown_column_fault(name: str, present: list[str], key: str) -> Fault:
    """Return the fault of a configured column that the row does not have; its fix is the most similar column."""
    near = difflib.get_close_matches(name, present, n=1, cutoff=0.5)
    fix = f"set {setting(key, near[0])}" if near else f"set {key} to one of them"
    return Fault("unknown-column", f"there is no column {name!r} ({list_columns(present)})", fix, column=name)


def missing_everywhere(fault: Fault, sample: Mapping[str, Any], columns: Columns) -> Fault:
    """Return the fault of a row as the fault of a file without such a row; the fix uses the columns of `sample`."""
    if fault.code != "missing-field":
        return fault
    fix, names = fault.fix, list(sample)
    prompt = columns.prompt or columns.text or _first(PROMPT_NAMES, names)
    completion = columns.completion or columns.label or _first(COMPLETION_NAMES, [n for n in names if n != prompt])
    missing = [role for role, name in (("prompt", prompt), ("completion", completion)) if name is None]
    free = [n for n in names if n not in (prompt, completion) and may_hold("".join(missing[:1]), n, sample[n])]
    if len(free) == len(missing):
        settings = [setting(f"data.columns.{role}", name) for role, name in zip(missing, free, strict=True)]
        fix = f"name the columns: {' '.join(settings)}"
    return replace(fault, message=fault.message.replace("the row has no", "no row has a", 1), fix=fix)


def list_columns(names: list[str]) -> str:
    """Return column names for a message."""
    if not names:
        return "it has no columns"
    more = f" and {len(names) - MAX_COLUMNS} more" if len(names) > MAX_COLUMNS else ""
    return "columns: " + ", ".join(name[:40] for name in names[:MAX_COLUMNS]) + more


def _first(candidates: Iterable[str], present: list[str]) -> str | None:
    return next((name for name in candidates if name in present), None)


def to_fields(record: Mapping[str, Any], layout: Layout, action: Action) -> tuple[Fields | None, list[Fault]]:
    """Return the row's fields (None if they cannot be used), and its faults."""
    further, faults = read_further(record, layout.tools, layout.reasoning, layout.weight, action)
    fields, more = _read_fields(record, layout, further, action)
    return (None if is_dropped(faults, action) else fields), faults + more


def _read_fields(
    record: Mapping[str, Any], layout: Layout, further: Further, action: Action
) -> tuple[Fields | None, list[Fault]]:
    prompt, metadata = turns_of(record.get(layout.prompt)), _metadata(record, layout)
    if layout.kind in ("chat", "pair") and (turns := _turns(prompt, record.get(layout.completion), layout)) is not None:
        chat, faults = chat_fields(turns, layout.prompt, action, further)
        return (None if chat is None else Fields(chat.prompt, True, chat.completion, metadata, chat.extras)), faults
    faults = []
    text = None
    if layout.kind != "text":
        text, faults = check_text(prompt, layout.prompt, action)
    answer, answer_faults = answer_fields(
        record.get(layout.completion), layout.completion, layout.kind, action, further
    )
    faults += answer_faults
    if layout.kind == "alpaca" and record.get(layout.context) not in (None, ""):
        context, context_faults = check_text(record[layout.context], layout.context, action)
        faults += context_faults
        text = f"{text}\n\n{context}" if text is not None and context is not None else None
    if answer is None or (text is None and layout.kind != "text"):
        return None, faults
    return Fields(text, False, answer[0], metadata, answer[1]), faults


def _turns(prompt: object, completion: object, layout: Layout) -> object:
    """Return the turns of a chat, or of a pair with turns on either side; None for a pair of texts."""
    if layout.kind == "chat":
        return prompt
    is_turn = isinstance(completion, Mapping) and ("role" in completion or "from" in completion)
    last = [completion] if is_turn else completion
    if not isinstance(prompt, list) and not _are_turns(last):
        return None
    first = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    return first + (last if isinstance(last, list) else [{"role": "assistant", "content": last}])


def _are_turns(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(turn, Mapping) for turn in value)


def turns_of(value: object) -> object:
    """Return the turns of OpenAI's `{"messages": [...]}`; any other value unchanged."""
    return value["messages"] if isinstance(value, Mapping) and isinstance(value.get("messages"), list) else value


def _metadata(record: Mapping[str, Any], layout: Layout) -> str | None:
    """Return the metadata columns as a flat JSON object; None without any.

    An object in a column `metadata` is flattened; a key of it that is also a column becomes `metadata.NAME`.
    """
    values = {name: record[name] for name in layout.metadata if record.get(name) is not None}
    if isinstance(values.get("metadata"), Mapping):
        inner = values.pop("metadata")
        values |= {f"metadata.{name}" if name in values else name: value for name, value in inner.items()}
    return json.dumps(values, default=str) if values else None
