"""Filling templates from a row: looking up values, joining lists, lettering choices; every text is checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from kamerton.data.read.columns.choices import Answer, letter_of, lettered, options_of
from kamerton.data.read.nested import unpacked
from kamerton.data.read.text import Action, check_text, is_blank
from kamerton.data.template import ANSWERS, JOINS, BoundField, Template, path_text
from kamerton.errors import Fault


def fill(template: Template, record: Mapping[str, Any], action: Action) -> tuple[str | None, list[Fault]]:
    """Return the text of a row (None if it cannot be used; "" if all is optional and empty), and the faults."""
    faults: list[Fault] = []
    result: list[str] = []
    usable = True
    for paragraph in template.paragraphs:
        texts, has_fields, is_filled = [], False, False
        for part in paragraph:
            if isinstance(part, str):
                texts.append(part)
                continue
            text, field_faults = _field_text(part, template, record, action)
            faults += field_faults
            usable = usable and text is not None
            has_fields, is_filled = True, is_filled or bool(text) or not part.optional
            texts.append(text or "")
        if is_filled or not has_fields:
            result.append("".join(texts))
    return ("\n\n".join(result) if usable else None), faults


def _field_text(
    field: BoundField, template: Template, record: Mapping[str, Any], action: Action
) -> tuple[str | None, list[Fault]]:
    values = [value_at(record, path) for path in field.paths]
    if field.optional and all(is_blank(value) for value in values):
        return "", []
    if field.filter in ANSWERS:
        return _answer_text(field, values[0], template, record)
    value: object = unpacked(values[0]) if field.filter else values[0]
    if field.filter == "letters":
        value = lettered(options_of(values, [path_text(path) for path in field.paths]))
    elif field.filter == "json":
        value = None if value is None else json.dumps(value, ensure_ascii=False, default=str)
    elif field.filter:
        value = _joined(value, JOINS[field.filter])
    else:
        value = scalar_text(value)
    text, faults = check_text(value, field.name, action)
    if faults and faults[0].code == "not-text":
        faults[0] = _not_text_fault(field, value)
    return text, faults


def _answer_text(
    field: BoundField, value: object, template: Template, record: Mapping[str, Any]
) -> tuple[str | None, list[Fault]]:
    """Return the letter of the choice that is the answer."""
    choices = template.choices
    assert choices is not None  # checked when the template is bound
    value = only_item(value)
    if is_blank(value):
        return None, [Fault("missing-field", f"there is no {field.name}", "remove the row", column=field.name)]
    values = [value_at(record, path) for path in choices.paths]
    options = options_of(values, [path_text(path) for path in choices.paths])
    letter = letter_of(Answer(field.filter), value, options)
    if letter is None:
        message = f"{field.name} is {str(value)[:60]!r}, which is {ANSWERS[field.filter]} of none of the choices"
        return None, [Fault("bad-choice", message, "correct the row, or remove it", column=field.name)]
    return letter, []


def _not_text_fault(field: BoundField, value: object) -> Fault:
    if isinstance(value, Mapping):
        keys = ", ".join(str(key) for key in list(value)[:8])
        message = f"{field.name} is an object ({keys}), not a text"
        fix = f"name what to read of it, such as {{{field.name}.{next(iter(value), 'KEY')}}}"
    else:
        message = f"{field.name} is a list, not a text"
        fix = f"write {{{field.name}:lines}} (one a line), {{{field.name}:list}} (with commas) or {{{field.name}[0]}}"
    return Fault("not-text", message, fix, column=field.name)


def value_at(record: object, path: Iterable[str | int]) -> object:
    """Return the value of a path; of a list of objects, a key gives the list of its values. None if it is missing.

    A text that is a list or an object is read as one.
    """
    value = record
    for key in path:
        value = unpacked(value)
        if isinstance(value, Mapping):
            value = value.get(key, value.get(str(key)))
        elif isinstance(value, list) and isinstance(key, int):
            value = value[key] if key < len(value) else None
        elif isinstance(value, list):
            found = [item.get(key) for item in value if isinstance(item, Mapping)]
            value = found if found or not value else None
        else:
            return None
    return value


def scalar_text(value: object) -> object:
    """Return a number or truth value as its text; the only item of a list; other values unchanged."""
    value = only_item(value)
    if value != value:  # noqa: PLR0124 - NaN
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def only_item(value: object) -> object:
    """Return the item of a list of one; other values unchanged. An empty list is a missing value."""
    if isinstance(value, list) and len(value) <= 1:
        return value[0] if value else None
    return value


def _joined(value: object, separator: str) -> object:
    if not isinstance(value, list):
        return scalar_text(value)
    texts = [_joined(item, " ") if isinstance(item, list) else scalar_text(item) for item in value]
    return separator.join(map(str, texts)) if all(isinstance(text, str) for text in texts) and texts else value or None
