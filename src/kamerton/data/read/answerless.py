"""Files of validation or test rows without answers, as benchmarks have whose test answers are secret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from kamerton.data.data_file import DataFile
from kamerton.data.options import DataOptions
from kamerton.data.read.columns.kinds import BOOKKEEPING, snake_case
from kamerton.data.read.columns.layout import Layout
from kamerton.data.read.columns.schema import find_layout
from kamerton.data.read.records import read_rows
from kamerton.data.read.text import is_blank
from kamerton.errors import Fault

Record = Mapping[str, Any]
HEAD = 64  # rows of the training file that show its columns
HIDDEN = "-1"  # the label of a row whose label is secret, as in GLUE


def answered_files(files: list[DataFile], options: DataOptions) -> tuple[list[DataFile], list[Fault]]:
    """Return the files to read, and a fault for each file of a split by name none of whose rows has an answer.

    Such a file of `data.path` is left out, with a warning; if training files alone are left, their rows are split.
    One that a setting names is an error.
    """
    train = [file for file in files if file.split == "train"]
    held_out = [file for file in files if file.split in ("validation", "test")]
    if options.rows != "completions" or not train or not held_out:
        return files, []
    head = list(islice(_records(train[0]), HEAD))
    answers = _answer_columns(train[0], head)
    without = [(file, found) for file in held_out if answers and (found := _without_answers(file, answers, head))]
    left = [file for file in files if not any(file is other for other, _ in without)]
    splits = {file.split for file in left}
    if splits == {"train"} and options.path:
        left = [replace(file, split=None) for file in left]
    return left, [_fault(file, *found, answers, splits, options) for file, found in without]


def _records(file: DataFile) -> Any:
    return (record for _, record in read_rows(file) if not isinstance(record, Fault))


def _answer_columns(file: DataFile, head: Sequence[Record]) -> tuple[str, ...]:
    """Return the columns of the completion of a file; none of chats, of texts, and of rows that cannot be read."""
    layout = find_layout(head[0], file.columns, file.form, head) if head else None
    if not isinstance(layout, Layout) or layout.kind in ("chat", "text"):
        return ()
    return layout.completion_template.columns if layout.completion_template else (layout.completion,)


def _without_answers(file: DataFile, answers: Sequence[str], train: Sequence[Record]) -> tuple[int, str] | None:
    """Return the number of rows and how their answers are missing; None if a row has one, or may have."""
    hidden = all(str(record.get(name)) != HIDDEN for record in train for name in answers)
    count, ways, head = 0, set(), []
    for count, record in enumerate(_records(file), 1):
        values = [record.get(name) for name in answers]
        if all(name not in record for name in answers):
            ways.add("missing")
        elif all(map(is_blank, values)):
            ways.add("blank")
        elif hidden and all(str(value) == HIDDEN for value in values):
            ways.add("hidden")
        else:
            return None
        head += [record] if count <= HEAD else []
    if "missing" in ways:
        known = {name for record in train for name in record}
        others = {name for record in head for name in record} - known
        layout = find_layout(head[0], file.columns, replace(file.form, completion=None), head)
        is_answered = isinstance(layout, Layout) and layout.kind != "text"
        if is_answered or any(not set(snake_case(name).split("_")) & BOOKKEEPING for name in others):
            return None  # the answers may have another name
    name = ", ".join(answers)
    words = {"missing": f"there is no {name}", "blank": f"{name} is blank", "hidden": f"{name} is {HIDDEN}"}
    return (count, " or ".join(words[way] for way in sorted(ways))) if ways else None


def _fault(
    file: DataFile, count: int, reason: str, answers: Sequence[str], splits: set[str | None], options: DataOptions
) -> Fault:
    message = f"none of the {count:,} rows has an answer ({reason})"
    fix = f"give the rows their answers in {', '.join(answers)}"
    if not options.path:
        fix += f", or leave data.{file.split} out: rows without answers cannot be scored"
        return Fault("missing-field", message, fix, file.name, column=answers[0])
    result = "validation and test rows are split from the training files"
    if splits != {"train"}:
        result = (
            f"there is no {file.split} split" if file.split not in splits else f"the other files of {file.split} are"
        )
    message += f", so the file is not read, and {result}"
    return Fault("not-read", message, f"nothing, if that is intended; else {fix}", file.name, severity="warning")
