"""From a raw row and its layout to prompt, completion and metadata, every text checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kamerton.data.form import label_names_setting
from kamerton.data.read.columns.fill import fill
from kamerton.data.read.columns.layout import Fields, Layout
from kamerton.data.read.conversations.asked_form import check_asked_form
from kamerton.data.read.conversations.chat import Further, chat_fields, is_dropped, lists_functions
from kamerton.data.read.conversations.further import answer_fields, read_further
from kamerton.data.read.conversations.parts import read_content
from kamerton.data.read.conversations.roles import is_turn
from kamerton.data.read.text import Action, check_text, is_blank
from kamerton.data.template import Template
from kamerton.errors import Fault

Record = Mapping[str, Any]


def to_fields(record: Record, layout: Layout, action: Action) -> tuple[Fields | None, list[Fault]]:
    """Return the row's fields (None if they cannot be used), and its faults."""
    further, faults = read_further(record, layout.tools, layout.reasoning, layout.weight, action)
    if layout.system and any(lists_functions(record.get(name)) for name in layout.system.columns):
        further = replace(further, listed=True)
    fields, more = _read_fields(record, layout, further, action)
    faults += more
    if layout.system or layout.history:
        fields, more = _with_turns(fields, record, layout, action)
        faults += more
    if fields is not None and fields.chat and fields.prompt is not None:
        prompt, more = check_asked_form(fields.prompt, fields.extras, action)
        faults += more
        fields = replace(fields, prompt=prompt) if prompt is not fields.prompt else fields
    return (None if faults and is_dropped(faults, action) else fields), faults


def prompt_turns(record: Record, layout: Layout, action: Action) -> tuple[list[Any] | None, list[Fault]]:
    """Return the turns before the completion (`Message.to_list`) of a row without it, and the faults."""
    text: str | None = ""
    if (turns := written_turns(record, layout)) is not None:
        chat, faults = chat_fields([*turns, {"role": "assistant", "content": "."}], layout.prompt_column, action)
        fields = None if chat is None else Fields(chat.prompt, True, "", None)
    else:
        text, faults = _prompt_text(record, layout, action)
        fields = Fields(text, False, "", None)
    fields, more = _with_turns(fields, record, layout, action)
    faults += more
    if text is None or fields is None or fields.prompt is None:
        return None, faults
    return (json.loads(fields.prompt) if fields.chat else [["user", text, 1.0]]), faults


def _read_fields(record: Record, layout: Layout, further: Further, action: Action) -> tuple[Fields | None, list[Fault]]:
    """Return the fields of a row without system turn and history."""
    prompt, metadata = turns_of(record.get(layout.prompt)), _metadata(record, layout)
    if layout.kind in ("chat", "pair") and (turns := _turns(prompt, record.get(layout.completion), layout)) is not None:
        if layout.instruction:
            message = f"{layout.prompt} has chat turns, and data.instruction stands before a prompt of text"
            return None, [Fault("bad-messages", message, "write it as data.system", column=layout.prompt)]
        chat, faults = chat_fields(turns, layout.prompt, action, further)
        return (None if chat is None else Fields(chat.prompt, True, chat.completion, metadata, chat.extras)), faults
    if (turns := written_turns(record, layout)) is not None:
        value, column, faults = _answer_value(record, layout, action)
        if value is None and faults:
            return None, faults
        turns, column = [*turns, {"role": "assistant", "content": value}], layout.prompt_column
        chat, more = chat_fields(turns, column, action, further)
        faults += more
        return (None if chat is None else Fields(chat.prompt, True, chat.completion, metadata, chat.extras)), faults
    text, faults = (None, []) if layout.kind == "text" else _prompt_text(record, layout, action)
    answer, answer_faults = _answer(record, layout, further, action)
    faults += answer_faults
    if answer is None or (text is None and layout.kind != "text"):
        return None, faults
    return Fields(text, False, answer[0], metadata, answer[1]), faults


def _prompt_text(record: Record, layout: Layout, action: Action) -> tuple[str | None, list[Fault]]:
    """Return the prompt of a row, with the instruction before it; None if it cannot be used."""
    if layout.prompt_template:
        text, faults = _filled(layout.prompt_template, record, action, "prompt")
    else:
        text, faults = check_text(record.get(layout.prompt), layout.prompt, action)
    if layout.kind == "alpaca" and record.get(layout.context) not in (None, ""):
        context, context_faults = check_text(record[layout.context], layout.context, action)
        faults += context_faults
        text = f"{text}\n\n{context}" if text is not None and context is not None else None
    if layout.instruction:
        before, more = _filled(layout.instruction, record, action, "instruction")
        faults += more
        text = f"{before}\n\n{text}" if text is not None and before is not None else None
    return text, faults


def written_turns(record: Record, layout: Layout) -> list[Any] | None:
    """Return the turns of a prompt that is one column of chat turns; None for other prompts."""
    value = record.get(layout.prompt_column) if layout.prompt_column and not layout.instruction else None
    return value if isinstance(value, list) and _are_turns(value) and all(map(is_turn, value)) else None


def _answer_value(record: Record, layout: Layout, action: Action) -> tuple[Any, str, list[Fault]]:
    """Return the completion of a row as it is written, with the name of its label, its column, and the faults.

    With a fault of its template or label it is None.
    """
    value, column = record.get(layout.completion), layout.completion
    faults: list[Fault] = []
    if layout.completion_template:
        column = ",".join(layout.completion_template.columns) or "completion"
        value, faults = _filled(layout.completion_template, record, action, "completion")
    if value == "-" and column == "gold_label":  # of SNLI: the annotators disagree
        value = None
    if layout.label_names and value is not None:
        names, text = layout.label_names, str(value)
        name = text if text in names.values() else names.get(text.removesuffix(".0"))
        if name is None:
            numbers = ", ".join(list(layout.label_names)[:8])
            message = f"{column} is {str(value)[:40]!r}, which data.label_names does not name (it has {numbers})"
            fix = "add its name, or remove the row"
            if list(names) == [str(number) for number in range(len(names))] and text == str(len(names)):
                fix = f"if the labels begin at 1: {label_names_setting(range(1, len(names) + 1), list(names.values()))}"
            faults.append(Fault("unknown-label", message, fix, column=column))
        value = name
    return value, column, faults


def _answer(
    record: Record, layout: Layout, further: Further, action: Action
) -> tuple[tuple[str, str | None] | None, list[Fault]]:
    """Return the completion of a row and its extras (None if it cannot be used), and the faults."""
    value, column, faults = _answer_value(record, layout, action)
    if value is None and faults:
        return None, faults
    answer, more = answer_fields(value, column, layout.kind, action, further)
    if not more:
        return answer, faults
    if more[0].code == "not-a-string" and layout.names_setting:
        fix = f"name the labels: {layout.names_setting}; or keep the numbers: data.policy.not-a-string=fix"
        more[0] = replace(more[0], fix=fix)
    codes = {fault.code for fault in faults}  # of the fields of a template, which are checked before they are joined
    return answer, faults + [fault for fault in more if fault.code not in codes]


def _turns(prompt: object, completion: object, layout: Layout) -> Any:
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


def _filled(template: Template, record: Record, action: Action, role: str) -> tuple[str | None, list[Fault]]:
    """Return the text of a template, which must not be empty."""
    text, faults = fill(template, record, action)
    if text is not None and not text.strip():
        columns = ", ".join(template.columns)
        fix = f"fill in {columns}, or remove the row"
        return None, [*faults, Fault("empty-field", f"the {role} is empty", fix, column=columns or role)]
    return text, faults


def _with_turns(
    fields: Fields | None, record: Record, layout: Layout, action: Action
) -> tuple[Fields | None, list[Fault]]:
    """Return the fields with the system turn and the earlier turns before the prompt."""
    turns, faults = _earlier_turns(record, layout, action)
    system, system_faults = _system_text(record, layout, action)
    faults += system_faults
    if fields is None or turns is None or system is None:
        return None, faults
    own: list[Any] = []
    if fields.chat and fields.prompt is not None:
        own = json.loads(fields.prompt)
    elif fields.prompt is not None:
        own = [["user", fields.prompt, 1.0]]
    if own and own[0][0] in ("system", "developer") and system:
        if own[0][1] != system and layout.system and layout.system.columns:
            message = f"{', '.join(layout.system.columns)} and the first turn are different system turns"
            fix = "keep one of them"
            return None, [*faults, Fault("bad-messages", message, fix, column=layout.system.columns[0])]
        system = ""
    turns = ([["system", system, 1.0]] if system else []) + turns
    if not turns:
        return fields, faults
    prompt = json.dumps([*turns, *own], ensure_ascii=False, separators=(",", ":"))
    return replace(fields, prompt=prompt, chat=True), faults


def _system_text(record: Record, layout: Layout, action: Action) -> tuple[str | None, list[Fault]]:
    """Return the text of the system turn; "" if its column is empty, None if it cannot be used."""
    template = layout.system
    if template is None:
        return "", []
    columns = template.columns
    if len(columns) == 1 and len(template.fields) == 1 and template.paragraphs == (template.fields,):  # a column alone
        value = record.get(columns[0])
        if is_blank(value):
            return "", []
        if isinstance(value, list):  # parts of text, as in Anthropic's format
            return check_text(read_content({"content": value}).text, columns[0], action)
    return _filled(template, record, action, "system")


def _earlier_turns(record: Record, layout: Layout, action: Action) -> tuple[list[Any] | None, list[Fault]]:
    """Return the turns of the history column: pairs of question and answer, or chat turns; None if unusable."""
    value = record.get(layout.history) if layout.history else None
    if is_blank(value):
        return [], []
    turns: list[object] = []
    fix = 'write it as [["question", "answer"], ...]'
    for item in value if isinstance(value, list) else [None]:
        if isinstance(item, Mapping):
            turns.append(item)
        elif isinstance(item, list | tuple) and len(item) == 2:
            turns += [{"role": role, "content": text} for role, text in zip(("user", "assistant"), item, strict=True)]
        else:
            message = f"{layout.history} is not a list of questions with answers"
            return None, [Fault("bad-messages", message, fix, column=layout.history)]
    chat, faults = chat_fields([*turns, {"role": "assistant", "content": "."}], layout.history, action)
    return (None if chat is None else json.loads(chat.prompt)), faults


def turns_of(value: object) -> object:
    """Return the turns of OpenAI's `{"messages": [...]}`; any other value unchanged."""
    return value["messages"] if isinstance(value, Mapping) and isinstance(value.get("messages"), list) else value


def _metadata(record: Record, layout: Layout) -> str | None:
    """Return the metadata columns as a flat JSON object; None without any.

    An object in a column `metadata` is flattened; a key of it that is also a column becomes `metadata.NAME`.
    """
    values = {name: record[name] for name in layout.metadata if record.get(name) is not None}
    if isinstance(values.get("metadata"), Mapping):
        inner = values.pop("metadata")
        values |= {f"metadata.{name}" if name in values else name: value for name, value in inner.items()}
    return json.dumps(values, default=str) if values else None
