"""Which columns of a row are completions, and how they are compared: pairs, rankings, judged pairs, judged completions.

A pair has the scores 1 and 0, a judged completion 1 (desired) or 0, a ranking its own scores or the negative ranks.
"""

from __future__ import annotations

from collections.abc import Mapping

from kamerton.data.form import Form
from kamerton.data.options import Columns
from kamerton.data.read.columns.formats import CHOSEN, REJECTED
from kamerton.data.read.columns.layout import list_columns, unknown_column_fault
from kamerton.data.read.preferences.candidates import read_candidates
from kamerton.data.read.preferences.compared import find_pair, read_compared
from kamerton.data.read.preferences.numbers import RANKS, SCORES, find_number, is_rank, to_number
from kamerton.data.read.preferences.sides import CODE, Completion, Record, Side, find_column, sides_of
from kamerton.data.read.preferences.turns import parsed_turns
from kamerton.data.read.text import is_blank
from kamerton.errors import Fault

JUDGED = ("label", "kto_tag", "desirable", "is_desirable", "is_good", "thumbs_up")  # true: a desired completion
LISTS = ("completions", "responses", "answers", "outputs", "candidates", "generations")
TEXTS = ("completion", "response", "answer", "output", "text", "content", "generation", "message", "messages")
NO_PAIR = (
    "write prompt, chosen and rejected; or name the columns: data.columns.chosen=NAME data.columns.rejected=NAME; or,"
    " to train on one completion a row, use objective=sft"
)
NO_LABEL = (
    "add label, true or false, to each completion; or name its column: data.columns.label=NAME; or, to train on all"
    " of them, use objective=sft"
)
OTHER_ROWS = ("missing-field", "unknown-column")  # codes of rows whose columns are not those of preferences


def read_sides(record: Record, columns: Columns, form: Form) -> list[Side] | Fault:
    """Return the completions of a row, or the fault of a row in which they are not recognised or cannot be used."""
    for key in ("chosen", "rejected", "label"):
        name = getattr(columns, key)
        if name and name not in record:
            return unknown_column_fault(name, list(record), f"data.columns.{key}")
    chosen = columns.chosen or find_column(record, CHOSEN)
    rejected = columns.rejected or find_column(record, REJECTED)
    if chosen and rejected:
        empty = next((name for name in (chosen, rejected) if is_blank(record[name])), None)
        if empty:
            return Fault("empty-field", f"{empty} is empty", f"fill in {empty}, or remove the row", column=empty)
        pair = [Completion(chosen, chosen, record[chosen], 1.0), Completion(rejected, rejected, record[rejected], 0.0)]
        return sides_of(record, pair, (chosen, rejected), columns, form)
    for read in (_ranked, read_compared, read_candidates):
        sides = read(record, columns, form)
        if sides is not None:
            return sides
    label = columns.label or find_column(record, JUDGED)
    if form.rows == "judgements":
        return _judged(record, label, columns)
    return _unpaired(record, chosen, rejected, label)


def _unpaired(record: Record, chosen: str | None, rejected: str | None, label: str | None) -> Fault:
    """Return the fault of a row whose completions cannot be compared."""
    if chosen or rejected:
        given, missing = ("better", "rejected") if chosen else ("worse", "chosen")
        message = f"the rows have a {given} completion ({chosen or rejected}) and nothing to compare it with"
        return Fault("missing-field", message, f"add {missing}; or use objective=kto with label", column=missing)
    if label and desired(record[label]) is not None:
        message = f"the rows have one completion each with a judgement of it ({label}), and pairs are needed"
        return Fault("missing-field", message, "use objective=kto, which learns from such rows", column=label)
    if pair := find_pair(record):
        message = f"the rows have two completions ({', '.join(pair)}), and nothing that says which one is better"
        fix = (
            f"add winner: {pair[0]}, {pair[1]} or tie; or, if one of them always is,"
            f" data.columns.chosen={pair[0]} data.columns.rejected={pair[1]}"
        )
        return Fault("missing-field", message, fix, column="winner")
    message = f"the rows have no completions to compare ({list_columns(list(record))})"
    return Fault("missing-field", message, NO_PAIR, column="chosen")


def desired(value: object) -> bool | None:
    """Return whether a judgement is that the completion is desired; None for other values."""
    return {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}.get(str(value).lower())


def _judged(record: Record, label: str | None, columns: Columns) -> list[Side] | Fault:
    """Return the only completion of a row with a judgement of it."""
    if label is None:
        message = f"the rows have no judgement of their completions ({list_columns(list(record))})"
        return Fault("missing-field", message, NO_LABEL, column="label")
    value = desired(record[label])
    if value is None:
        message = f"{label} is {str(record[label])[:40]!r}, which is neither true nor false"
        return Fault(CODE, message, "write true for a desired completion, false for another", column=label)
    rest = {key: parsed_turns(item) for key, item in record.items() if key != label}
    own = Columns(columns.prompt, columns.completion, None, columns.messages, columns.text, metadata=columns.metadata)
    return [Side(rest, own, label, float(value))]


def _ranked(record: Record, columns: Columns, form: Form) -> list[Side] | Fault | None:
    """Return the completions of a list, with scores or ranks."""
    name = find_column(record, LISTS)
    values = record[name] if name else None
    lists = [key for key, value in record.items() if isinstance(value, list)]
    beside = next((key for key in (columns.label, *SCORES, *RANKS) if key in lists), None) or find_number(lists)
    if name is None or not isinstance(values, list) or not values:
        return None
    objects = [value for value in values if isinstance(value, Mapping) and find_column(value, TEXTS)]
    key = find_number(dict.fromkeys(key for value in objects for key in value))
    if key is None and beside is None:
        return None
    if len(values) == 1:
        message = f"there is one completion in {name}, and nothing to compare it with"
        return Fault(CODE, message, "add another, or remove the row", column=name)
    text = find_column(objects[0], TEXTS) if objects else None
    for i, value in enumerate(values):
        if text and (not isinstance(value, Mapping) or is_blank(value.get(text))):
            message = f"{name}[{i}] has no {text}"
            return Fault(CODE, message, f"fill in {text}, or remove the row", column=f"{name}[{i}]")
    numbers = [value.get(key) for value in objects] if key else record[str(beside)]
    key = key or str(beside)
    scores = [to_number(number) for number in numbers]
    if len(scores) != len(values) or None in scores:
        message = f"{key} has not one number for each of the {len(values)} completions in {name}"
        return Fault(CODE, message, "give each completion a number, or remove the row", column=key)
    sign = -1 if is_rank(key) else 1
    completions = []
    for i, (value, score) in enumerate(zip(values, scores, strict=True)):
        content = value[text] if text else value
        unread = {k: v for k, v in value.items() if k not in (text, key)} if text else {}
        place = f"{name}[{i}]" + (f".{text}" if text else "")
        completions.append(Completion(place, name, content, sign * (score or 0.0), unread))
    return sides_of(record, completions, (name, *([key] if key == beside else [])), columns, form)
