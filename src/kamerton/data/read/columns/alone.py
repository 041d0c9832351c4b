"""Rows of prompts alone (`data.rows=prompts`): read as the other rows, with a text in place of the completion.

A row is a prompt alone if the column of the completion is missing or blank, or if its turns do not end with an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kamerton.data.data_file import DataFile
from kamerton.data.read.columns.fields import turns_of
from kamerton.data.read.columns.layout import NO_COMPLETION, Layout
from kamerton.data.read.columns.schema import find_layout
from kamerton.data.read.conversations.roles import is_turn, role_of, unwrap_turn
from kamerton.data.read.text import Action, is_blank
from kamerton.data.template import bind
from kamerton.errors import Fault

Record = Mapping[str, Any]
STAND_IN = "."  # any text that is read as an answer
_COLUMN = "completion"  # of the stand-in while the columns are recognised


def prompt_layout(
    found: Layout | Fault, names: Sequence[str], file: DataFile, head: Sequence[Record]
) -> Layout | Fault:
    """Return the layout of rows with these columns if they need no completion; `found` if they have one, or no prompt.

    `head` are the first rows of the file. A configured column that none of them has remains a fault.
    """
    columns, form = file.columns, file.form
    if isinstance(found, Layout) and (found.kind != "text" or columns.text is not None):
        return found
    if isinstance(found, Fault) and found.code not in ("missing-field", "unknown-column"):
        return found
    present = list(dict.fromkeys([*names, *(name for record in head for name in record)]))
    named = columns.completion or columns.label
    if named is not None and named not in present:
        return found
    if form.completion is not None and isinstance(bind(form.completion, present, "data.completion"), Fault):
        return found
    filled = [{name: record.get(name) for name in names} | {_COLUMN: STAND_IN} for record in head]
    own = replace(columns, completion=None, label=None)
    layout = find_layout(
        dict.fromkeys([*names, _COLUMN]), own, replace(form, completion=None, label_names=None), filled
    )
    return found if isinstance(layout, Fault) else layout


def is_alone(record: Record, layout: Layout, action: Action) -> bool:
    """Return whether a row has no completion."""
    if layout.kind == "text":
        return False
    if layout.kind == "chat":
        turns = turns_of(record.get(layout.prompt))
        if not isinstance(turns, list) or not turns or not all(map(is_turn, turns)):
            return False
        roles = [role_of(unwrap_turn(turn))[0] for turn in turns]
        is_cut = "assistant" in roles and action("trailing-turns") == "fix"  # turns after the last answer are removed
        return roles[-1] in ("user", "tool") and not is_cut
    if layout.completion_template is not None:
        columns = layout.completion_template.columns
        return bool(columns) and all(is_blank(record.get(name)) for name in columns)
    return is_blank(record.get(layout.completion))


def alone_layout(layout: Layout) -> Layout:
    """Return the layout of a row that `with_stand_in` returns."""
    if layout.kind == "chat":
        return layout
    return replace(layout, completion=NO_COMPLETION, completion_template=None, label_names={})


def with_stand_in(record: Record, layout: Layout) -> Record:
    """Return a row without completion with a stand-in for it, which the row as it is read must not keep."""
    if layout.kind != "chat":
        return {**record, NO_COMPLETION: STAND_IN}
    value = record[layout.prompt]
    turns = [*turns_of(value), {"role": "assistant", "content": STAND_IN}]  # type: ignore[misc]
    return {**record, layout.prompt: {**value, "messages": turns} if isinstance(value, Mapping) else turns}
