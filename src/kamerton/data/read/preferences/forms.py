"""Which columns of a row are completions, and how they are compared: pairs, rankings, judged pairs, judged completions.

A pair has the scores 1 and 0, a judged completion 1 (desired) or 0, a ranking its own scores or the negative ranks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kamerton.data.form import Form
from kamerton.data.options import Columns
from kamerton.data.read.columns.formats import CHOSEN, REJECTED
from kamerton.data.read.columns.layout import list_columns, unknown_column_fault
from kamerton.data.read.preferences.sides import CODE, Completion, Record, Side, find_column, parsed_turns, sides_of
from kamerton.data.read.text import is_blank
from kamerton.errors import Fault

JUDGED = ("label", "kto_tag", "desirable", "is_desirable", "is_good", "thumbs_up")  # true: a desired completion
LISTS = ("completions", "responses", "answers", "outputs", "candidates", "generations")
SCORES = ("scores", "ratings", "rewards", "overall_scores")  # higher is better
RANKS = ("ranks", "ranking", "rankings")  # lower is better
NUMBERS = ("overall_score", "score", "rating", "reward", "rank")  # of an object with a completion
TEXTS = ("completion", "response", "answer", "output", "text", "content", "generation", "message", "messages")
COMPARED = (
    *(("response_a", "response_b"), ("answer_a", "answer_b"), ("completion_a", "completion_b")),
    *(("conversation_a", "conversation_b"), ("human_ref_A", "human_ref_B"), ("response_0", "response_1")),
    *(("response_1", "response_2"), ("output_1", "output_2"), ("response1", "response2")),
)
WINNERS = ("winner", "preference", "preferred", "better", "better_response_id", "labels", "label", "chosen")
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
    for read in (_ranked, _compared):
        sides = read(record, columns, form)
        if sides is not None:
            return sides
    label = columns.label or find_column(record, JUDGED)
    if form.rows == "judgements":
        return _judged(record, label, columns)
    if chosen or rejected:
        given, missing = ("better", "rejected") if chosen else ("worse", "chosen")
        message = f"the rows have a {given} completion ({chosen or rejected}) and nothing to compare it with"
        return Fault("missing-field", message, f"add {missing}; or use objective=kto with label", column=missing)
    if label and desired(record[label]) is not None:
        message = f"the rows have one completion each with a judgement of it ({label}), and pairs are needed"
        return Fault("missing-field", message, "use objective=kto, which learns from such rows", column=label)
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
    beside = next((key for key in (*SCORES, *RANKS, *NUMBERS) if isinstance(record.get(key), list)), None)
    if name is None or not isinstance(values, list) or not values:
        return None
    objects = [value for value in values if isinstance(value, Mapping) and find_column(value, TEXTS)]
    key = next((key for key in NUMBERS if any(key in value for value in objects)), None)
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
    scores = [_number(number) for number in numbers]
    if len(scores) != len(values) or None in scores:
        message = f"{key} has not one number for each of the {len(values)} completions in {name}"
        return Fault(CODE, message, "give each completion a number, or remove the row", column=key)
    sign = -1 if key in (*RANKS, "rank") else 1
    completions = []
    for i, (value, score) in enumerate(zip(values, scores, strict=True)):
        content = value[text] if text else value
        unread = {k: v for k, v in value.items() if k not in (text, key)} if text else {}
        place = f"{name}[{i}]" + (f".{text}" if text else "")
        completions.append(Completion(place, name, content, sign * (score or 0.0), unread))
    return sides_of(record, completions, (name, *([key] if key == beside else [])), columns, form)


def _compared(record: Record, columns: Columns, form: Form) -> list[Side] | Fault | None:
    """Return two completions and the judgement which one is better."""
    pair = next((names for names in COMPARED if all(name in record for name in names)), None)
    winner = next((name for name in WINNERS if name in record), None)
    if pair is None or winner is None:
        return None
    for name in (*pair, winner):
        if is_blank(record[name]):
            return Fault("empty-field", f"{name} is empty", f"fill in {name}, or remove the row", column=name)
    score = _first_wins(record[winner], pair)
    if score is None:
        message = f"{winner} is {str(record[winner])[:40]!r}, which names neither {pair[0]} nor {pair[1]} nor a tie"
        return Fault(CODE, message, f"write {pair[0]}, {pair[1]} or tie", column=winner)
    scores = (score, 1 - score)
    completions = [Completion(name, name, record[name], own) for name, own in zip(pair, scores, strict=True)]
    return sides_of(record, completions, (*pair, winner), columns, form)


def _first_wins(value: object, pair: tuple[str, str]) -> float | None:
    """Return 1 if the first of two completions is better, 0 if the second is, 0.5 for a tie, None if unknown."""
    text = str(value).lower().strip().removesuffix(".0")
    if text.startswith("tie") or text in ("both", "neither", "equal", "0.5"):
        return 0.5
    if pair[0] == "human_ref_A" and text in ("0", "1"):  # SHP: 1 if the first is better
        return float(text)
    for score, name in ((1.0, pair[0]), (0.0, pair[1])):
        end = name.lower()[-1]  # a and b, 0 and 1, 1 and 2
        if text in (name.lower(), end, f"model_{end}", f"response_{end}", f"assistant_{end}"):
            return score
    return None


def _number(value: Any) -> float | None:
    """Return a score as a number; None for what is none, or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
