"""The roles of columns: by the configured names and templates, otherwise by the usual names.

The layout is determined for every set of columns that occurs in a file; the schema of the file is determined by all
its rows together (`kamerton.data.read.ingest`), not by the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import NoneType
from typing import Any

from kamerton.data.form import Form, label_names_setting
from kamerton.data.options import Columns
from kamerton.data.read.columns.kinds import snake_case
from kamerton.data.read.columns.layout import Layout, list_columns, unknown_column_fault
from kamerton.data.read.columns.propose import propose
from kamerton.data.read.columns.recognise import plain_pair, recognise
from kamerton.data.read.columns.unclear import BETTER, SUMMARIES
from kamerton.data.read.conversations.further import find_further
from kamerton.data.read.conversations.listed import is_conversation
from kamerton.data.template import Template, bind
from kamerton.errors import Fault

PROMPT_NAMES = ("prompt", "question", "query", "instruction", "input", "text", "sentence")
COMPLETION_NAMES = ("completion", "response", "answer", "output", "target", "label", "category", "class", "intent")
CHAT_NAMES = ("messages", "conversations", "conversation")
LISTED_NAMES = (
    "dialog",
    "dialogue",
    "dialogues",
    "turns",
    "chat",
    *("chat_history", "data"),
)  # chats if they hold a conversation
SYSTEM_NAMES = ("system", "system_prompt", "system_message")
HISTORY_NAMES = ("history",)
NO_FORM = Form()
MAX_NUMBER = 200  # of a label
MANY = 10  # rows from which on numbers that hardly repeat are no labels


def find_layout(
    names: Iterable[str], columns: Columns, form: Form = NO_FORM, head: Sequence[Mapping[str, Any]] = ()
) -> Layout | Fault:
    """Return the layout of rows with these columns, or a fault for a missing column.

    `head` are the first rows of the file; their values show the roles of columns with unclear names.
    """
    present = list(names)
    for key in ("prompt", "completion", "label", "messages", "text"):
        name = getattr(columns, key)
        if name is not None and name not in present:
            return unknown_column_fault(name, present, f"data.columns.{key}")
    layout = _find_roles(present, columns, form, head)
    if not isinstance(layout, Fault):
        layout = _add_turns(layout, present, columns, form, head)
    if isinstance(layout, Fault):
        return layout
    tools, reasoning, weight = find_further(layout.kind, present, layout.shown, columns, head)
    layout = replace(layout, tools=tools, reasoning=reasoning, weight=weight)
    rest = [name for name in present if name not in (*layout.shown, layout.weight)]
    metadata = columns.metadata if columns.metadata is not None else rest
    kept = ["metadata", *(columns.metadata or [])]
    unused = tuple(name for name in rest if name not in kept)
    return replace(layout, metadata=tuple(metadata), unused=unused)


def _find_roles(present: list[str], columns: Columns, form: Form, head: Sequence[Mapping[str, Any]]) -> Layout | Fault:
    """Return the layout by the settings, otherwise by the usual names, without system turn and metadata."""
    if columns.messages:
        return Layout("chat", columns.messages)
    if form.prompt or form.completion:
        return _by_templates(present, columns, form, head)
    prompt = columns.prompt or columns.text
    completion = columns.completion or columns.label
    if not prompt and not completion:
        layout = _by_usual_names(present, columns.metadata or [], head)
        if layout is not None:
            return layout
    if not prompt:
        prompt = _find_name(PROMPT_NAMES, [name for name in present if name != completion])
    if not completion:
        completion = _find_name(COMPLETION_NAMES, [name for name in present if name != prompt])
    if prompt and completion:
        return Layout("pair", prompt, completion)
    if prompt and (prompt == columns.text or (columns.text is None and snake_case(prompt) == "text")):
        return Layout("text", "", prompt)
    role = "completion" if prompt else "prompt"
    message = f"the row has no {role} ({list_columns(present)})"
    fix = f"add the field {role}, or name the column that contains it: data.columns.{role}=NAME"
    return Fault("missing-field", message, fix, column=role)


def _by_usual_names(
    present: list[str], unseen: Sequence[str], head: Sequence[Mapping[str, Any]]
) -> Layout | Fault | None:
    """Return the layout of chats, Alpaca's rows, and recognised data sets; None for other columns.

    The columns `unseen` are not read.
    """
    chat = _find_name(CHAT_NAMES, present)
    if chat is None:
        chat = _listed_chat([name for name in present if name not in unseen], head)
    if chat:
        return Layout("chat", chat)
    if "instruction" in present and "output" in present and not _find_name(BETTER, present):
        return Layout("alpaca", "instruction", "output", "input" if "input" in present else "")
    recognised = recognise([name for name in _all_columns(present, head) if name not in unseen], head)
    if isinstance(recognised, Fault):
        return recognised
    if recognised is not None:
        layout = _template_layout(recognised.prompt, recognised.completion, present, head)
        if isinstance(layout, Layout):
            return layout
    pair = plain_pair(present)
    return Layout("pair", *pair) if pair else None


def _listed_chat(names: list[str], head: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the column of another name that holds conversations, if no other columns hold prompt and completion."""
    name = _find_name(LISTED_NAMES, names)
    value = next((record[name] for record in head if record.get(name)), None) if name else None
    is_pair = _find_name(PROMPT_NAMES, names) and _find_name(COMPLETION_NAMES, names)
    if isinstance(value, list) and snake_case(str(name)) == "turns" and isinstance(value[0], str):
        return None  # questions of one user, as in MT-Bench
    return name if is_conversation(value) and not is_pair and not _find_name(SUMMARIES, names) else None


def _by_templates(
    present: list[str], columns: Columns, form: Form, head: Sequence[Mapping[str, Any]]
) -> Layout | Fault:
    """Return the layout of the given templates; one that is not given is found by the names of columns."""
    layout = _by_usual_names(present, columns.metadata or [], head)
    usual = layout.form if isinstance(layout, Layout) else {}
    prompt, completion = form.prompt, form.completion
    if prompt is None:
        name = columns.prompt or (None if "prompt" in usual else _find_name(PROMPT_NAMES, present))
        prompt = f"{{{name}}}" if name else usual.get("prompt")
    if completion is None:
        named = columns.completion or columns.label
        name = named or (None if "completion" in usual else _find_name(COMPLETION_NAMES, present))
        completion = f"{{{name}}}" if name else usual.get("completion")
    for role, template in (("prompt", prompt), ("completion", completion)):
        if not template:
            message = f"the row has no {role} ({list_columns(present)})"
            return Fault("missing-field", message, f"add a template of it: data.{role}='\"{{NAME}}\"'", column=role)
    return _template_layout(str(prompt), str(completion), present, head)


def _template_layout(
    prompt: str, completion: str, present: list[str], head: Sequence[Mapping[str, Any]]
) -> Layout | Fault:
    """Return the layout of two templates for rows with these columns, which may lack those of optional fields."""
    columns = _all_columns(present, head)
    bound = bind(prompt, columns, "data.prompt")
    if isinstance(bound, Fault):
        return bound
    choices = next((field for field in bound.fields if field.filter == "letters"), None)
    answer = bind(completion, columns, "data.completion", choices)
    if isinstance(answer, Fault):
        return answer
    for name in (*bound.required, *answer.required):
        if name not in present:
            return unknown_column_fault(name, present, "data.prompt")
    return Layout("template", prompt_template=bound, completion_template=answer)


def _all_columns(present: list[str], head: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns of a row and of the first rows of its file."""
    return list(dict.fromkeys([*present, *(name for record in head for name in record)]))


def _add_turns(
    layout: Layout, present: list[str], columns: Columns, form: Form, head: Sequence[Mapping[str, Any]]
) -> Layout | Fault:
    """Return the layout with the system turn, the earlier turns, the instruction and the names of labels."""
    for key in ("system", "instruction"):
        if getattr(form, key) is not None and layout.kind in (("text",) if key == "system" else ("text", "chat")):
            what = "plain text" if layout.kind == "text" else "chat turns"
            fix = f"leave data.{key} out" + ("" if layout.kind == "text" else ", or write it as data.system")
            return Fault("bad-value", f"data.{key} stands before a prompt, and the rows are {what}", fix, column=key)
    free = [name for name in present if name not in (*layout.shown, *(columns.metadata or []))]
    system: Template | Fault | None = None
    if form.system is not None:
        system = bind(form.system, present, "data.system")
    elif layout.kind != "text" and (name := _find_name(SYSTEM_NAMES, free)):
        system = bind(f"{{{name}?}}", [name], "data.system")
    instruction = None if form.instruction is None else bind(form.instruction, present, "data.instruction")
    for template in (system, instruction):
        if isinstance(template, Fault):
            return template
    history = (_find_name(HISTORY_NAMES, free) or "") if layout.kind in ("pair", "alpaca", "template") else ""
    if history and any(str(record.get(history) or "")[:1].isalnum() for record in head):
        history = ""  # a text
    return replace(
        layout,
        system=system if isinstance(system, Template) else None,
        instruction=instruction if isinstance(instruction, Template) else None,
        history=history,
        label_names=named_labels(form.label_names),
        names_setting=_names_setting([record.get(layout.completion) for record in head]),
    )


def _names_setting(values: Sequence[object]) -> str:
    """Return the setting that names labels, if these are numbers that repeat, from 0 or 1; else ""."""
    numbers = {value for value in values if type(value) is int}
    are_numbers = all(type(value) in (int, NoneType) for value in values)
    if not numbers or not are_numbers or min(numbers) < 0 or max(numbers) > MAX_NUMBER:
        return ""
    if len(values) > MANY and 2 * len(numbers) > len(values):
        return ""  # counts or amounts
    return label_names_setting(range(min(1, *numbers), max(numbers) + 1))


def named_labels(names: Sequence[str] | Mapping[Any, str] | None) -> dict[str, str]:
    """Return the name of each number that stands for a label."""
    if names is None:
        return {}
    pairs = names.items() if isinstance(names, Mapping) else enumerate(names)
    return {str(number): name for number, name in pairs}


def missing_everywhere(fault: Fault, head: Sequence[Mapping[str, Any]], columns: Columns) -> Fault:
    """Return the fault of a row as the fault of a file without such a row; the fix reads the columns of `head`."""
    if fault.code != "missing-field":
        return fault
    fix, names = fault.fix, list(head[0]) if head else []
    prompt = columns.prompt or columns.text or _find_name(PROMPT_NAMES, names)
    completion = columns.completion or columns.label or _find_name(COMPLETION_NAMES, [n for n in names if n != prompt])
    settings = propose(head, prompt, completion)
    if settings is not None:
        fix = f"name the columns: {settings}"
    elif len(names) == 1 and prompt and all(is_conversation(record.get(prompt)) for record in head):
        message = f"the rows are prompts alone ({prompt} has turns without an answer)"
        fix = "give an answer to each: a column completion, or the assistant's turn at the end of messages"
        return replace(fault, message=message, fix=fix)
    elif prompt and len(names) == 1 and all(isinstance(record.get(prompt), str) for record in head):
        fix = f"give rows with answers; or, to train on the prompts as texts, add data.columns.text={prompt}"
    return replace(fault, message=fault.message.replace("the row has no", "no row has a", 1), fix=fix)


def _find_name(candidates: Iterable[str], present: Sequence[str]) -> str | None:
    """Return the first candidate that is a column, by its exact name or in another case."""
    names: dict[str, str] = {}
    for name in sorted(present, key=lambda name: name != snake_case(name)):
        names.setdefault(snake_case(name), name)
    return next((names[candidate] for candidate in candidates if candidate in names), None)
