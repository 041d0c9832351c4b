"""The settings that write prompt and completion from the columns of a row, and their check without any file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kamerton.data.template import check_template
from kamerton.errors import Fault
from kamerton.shell import setting

TEMPLATES = ("prompt", "completion", "system", "instruction")
COLUMNS = {"prompt": ("prompt", "messages", "text"), "completion": ("completion", "label", "messages", "text")}


@dataclass
class Form:
    """How prompt and completion are written from a row: texts and templates of `kamerton.data.template`.

    `rows` is that of `DataOptions`.
    """

    prompt: str | None = None
    completion: str | None = None
    system: str | None = None
    instruction: str | None = None
    label_names: list[str] | dict[str | int, str] | None = None
    rows: str = "completions"


def check_form(form: Form, columns: Any, key: str) -> list[Fault]:
    """Return a fault for each invalid template, each contradiction to `columns`, and invalid names of labels."""
    faults: list[Fault] = []
    for role in TEMPLATES:
        template = getattr(form, role)
        if template is None:
            continue
        if not template.strip():
            fix = f"leave {key}.{role} out"
            faults.append(Fault("bad-value", f"{key}.{role} is empty", fix, column=f"{key}.{role}"))
        faults += check_template(template, f"{key}.{role}")
        for name in COLUMNS.get(role, ()):
            if getattr(columns, name) is not None:
                message = f"{key}.{role} and {key}.columns.{name} are both given"
                faults.append(Fault("bad-value", message, "give one of them", column=f"{key}.{role}"))
    named = [name for name in ("messages", "prompt", "text") if getattr(columns, name)]
    if len(named) > 1:
        message = f"{key}.columns.{named[0]} and {key}.columns.{named[1]} are both given, and a row is read in one way"
        faults.append(Fault("bad-value", message, "give one of them", column=f"{key}.columns.{named[1]}"))
    if form.label_names is not None and not _are_label_names(form.label_names):
        message = (
            f"{key}.label_names is {form.label_names!r} but must be two or more different names by number: [no,yes] or"
            " {0: no, 1: yes}"
        )
        faults.append(Fault("bad-value", message, "give each number a name", column=f"{key}.label_names"))
    return faults


def _are_label_names(names: Any) -> bool:
    """Return whether the names are different texts, of a mapping for keys of one type that are numbers."""
    keys, values = (list(names), list(names.values())) if isinstance(names, dict) else ([], list(names))
    are_numbers = all(re.fullmatch(r"-?\d+", str(key)) for key in keys) and len({type(key) for key in keys}) < 2
    are_texts = all(isinstance(value, str) and value.strip() for value in values)
    return are_numbers and are_texts and len(set(values)) == len(values) >= 2


def label_names_setting(numbers: range, names: Sequence[str] = ()) -> str:
    """Return the setting that names labels that are `numbers`, by NAME0, NAME1, ... if their names are unknown."""
    pairs = dict(zip(numbers, names or [f"NAME{number}" for number in numbers], strict=True))
    return setting("data.label_names", pairs if numbers[0] else list(pairs.values()))
