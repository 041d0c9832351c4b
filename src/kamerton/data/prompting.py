"""The prompt of a trained model from the fields of a row: the settings are kept with the model as `prompt.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

from kamerton.data.codes import action
from kamerton.data.form import TEMPLATES, Form, check_form
from kamerton.data.options import COMPARED, Columns, DataOptions
from kamerton.data.read.columns.fields import prompt_turns, written_turns
from kamerton.data.read.columns.fill import fill
from kamerton.data.read.columns.layout import Layout
from kamerton.data.read.records import read_rows
from kamerton.data.read.sources import find_files, local_data
from kamerton.data.template import Template, bind, optional_columns
from kamerton.errors import Fault, UserError

FORM = "prompt.json"


def write_form(folder: Path, form: Mapping[str, Any]) -> None:
    """Write the settings that write the prompts of a model into its folder; nothing for chats and plain text."""
    if form:
        (folder / FORM).write_text(json.dumps(form, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_form(folder: Path) -> Form | None:
    """Return the settings in a model's folder, None without any. Raises `UserError` if they are invalid."""
    path = folder / FORM
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_bytes())
        form = Form(**values)
        are_texts = all(isinstance(getattr(form, role), str | None) for role in TEMPLATES)
        if not form.prompt or not are_texts or not isinstance(form.label_names, dict | None):
            raise ValueError("prompt is missing, or a value is not a text")
    except (ValueError, TypeError) as error:
        fix = "copy the file from the trained model again"
        raise UserError([Fault("bad-value", f"this is not what Kamerton writes: {error}", fix, str(path))]) from error
    faults = check_form(form, Columns(), "prompt.json")
    if faults:
        raise UserError([replace(fault, file=str(path)) for fault in faults])
    return form


def build_messages(model: str | Path, fields: Mapping[str, Any]) -> list[dict[str, str]]:
    """Build the chat turns of a trained model's prompt from the fields of a row, as its training rows were built.

    Args:
        model: the folder of the model, or of its run.
        fields: the columns of the row by name; those of the completion are not needed.

    Returns:
        Turns `{"role": ..., "content": ...}`, for `apply_chat_template` or the API of `kamerton serve`.

    Raises:
        UserError: if the model was not trained on rows of columns, or a field is missing or empty.

    Example:
        >>> from kamerton.data import build_messages
        >>> build_messages("model", {"context": "Paris is the capital.", "question": "Of what?"})
        [{'role': 'user', 'content': 'Paris is the capital.\\n\\nOf what?'}]
    """
    folder = Path(model)
    form = read_form(folder) or read_form(folder / "model")
    if form is None:
        message = f"the folder has no {FORM}: the model was trained on chats or plain text, or is not Kamerton's"
        raise UserError([Fault("missing-file", message, "write the chat turns yourself", str(folder))])
    turns, faults = prompt_turns(fields, _layout(form, fields), lambda code: action({}, code))
    if turns is None:
        raise UserError(faults)
    return [{"role": role, "content": content} for role, content, *_ in turns]


def _layout(form: Form, fields: Mapping[str, Any]) -> Layout:
    """Return the layout of a row without its completion."""
    templates: dict[str, Template] = {}
    for role in ("prompt", "system", "instruction"):
        source = getattr(form, role)
        if source is not None:
            bound = bind(source, [*fields, *optional_columns(source, list(fields))], role)
            if isinstance(bound, Fault):
                raise UserError([replace(bound, message=f"the field {bound.column} of the model's {role} is missing")])
            templates[role] = bound
    system, instruction = templates.get("system"), templates.get("instruction")
    return Layout("template", prompt_template=templates["prompt"], system=system, instruction=instruction)


def with_saved_form(options: DataOptions, folder: Path) -> DataOptions:
    """Return the options with the settings in a model's folder, if they read the first row and none are given.

    For preferences these are the settings of the prompt, if all of the row is texts.
    """
    settings = [*asdict(options.columns).values(), *(getattr(options, role) for role in TEMPLATES), options.label_names]
    if any(value is not None for value in settings) or options.sources:
        return options
    form = read_form(folder)
    if form is None:
        return options
    if options.rows in COMPARED:
        form = replace(form, completion=None, label_names=None, rows=options.rows)
    files, _ = find_files(local_data(options))
    notes: list[str] = []
    first = next((record for _, record in islice(read_rows(files[0], notes.append), 1)), None) if files else None
    if not isinstance(first, Mapping) or not _reads(form, first):
        return options
    return replace(options, **{**asdict(form), "rows": options.rows})


def _reads(form: Form, record: Mapping[str, Any]) -> bool:
    """Return whether the templates of the prompt and of a single completion can be filled from a row."""
    choices = None
    sources = [form.prompt]
    if form.rows == "completions":
        sources.append(form.completion)
    elif any(isinstance(value, list | Mapping) for value in record.values()):
        return False
    for source in sources:
        if source is None:
            return False
        bound = bind(source, [*record, *optional_columns(source, list(record))], "", choices)
        if isinstance(bound, Fault):
            return False
        has_turns = source == form.prompt and written_turns(record, Layout("template", prompt_template=bound))
        if not has_turns and fill(bound, record, lambda code: "warn")[0] is None:
            return False
        choices = next((field for field in bound.fields if field.filter == "letters"), None)
    return True
