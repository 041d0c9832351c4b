"""Two completions side by side in a row, and what says which one is better: a winner, a signed number, or scores."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kamerton.data.form import Form
from kamerton.data.options import Columns
from kamerton.data.read.columns.kinds import snake_case
from kamerton.data.read.preferences.numbers import to_number
from kamerton.data.read.preferences.sides import CODE, Completion, Record, Side, sides_of
from kamerton.data.read.text import is_blank
from kamerton.errors import Fault

ENDS = (("a", "b"), ("0", "1"), ("1", "2"))  # of the names of both columns
COMPLETIONS = (  # the last word of the names before their ends
    *("response", "answer", "completion", "output", "conversation", "ref"),
    *("reply", "generation", "candidate", "summary", "text", "message"),
)
WINNERS = ("winner", "preference", "preferred", "better", "better_response_id", "labels", "label", "chosen")
SIGNED = ("preference_strength", "overall_preference")  # below 0: the first one is better (HelpSteer)
JUDGEMENTS = {"winner", "won", "wins", "preferred", "better", "score", "rating", "reward", "votes", "rank"}
Pair = tuple[str, str]


def read_compared(record: Record, columns: Columns, form: Form) -> list[Side] | Fault | None:
    """Return the sides of a row with two completions and a judgement; None for other rows."""
    pair = find_pair(record)
    if pair is None:
        return None
    winner = next((name for name in (*WINNERS, *SIGNED) if name in record), None)
    judges = (winner,) if winner else _columns_of_sides(record, pair)
    if judges is None:
        return None
    for name in (*pair, *judges):
        if is_blank(record[name]):
            return Fault("empty-field", f"{name} is empty", f"fill in {name}, or remove the row", column=name)
    score = _first_wins(record, pair, judges)
    if isinstance(score, Fault):
        return score
    completions = [
        Completion(name, name, record[name], own) for name, own in zip(pair, (score, 1 - score), strict=True)
    ]
    ties = [name for name in record if snake_case(name).rpartition("_")[2] == "tie"] if len(judges) == 2 else []
    return sides_of(record, completions, (*pair, *judges, *ties), columns, form)


def find_pair(record: Record) -> Pair | None:
    """Return the columns of two completions, such as `response_a` and `response_b`; None for other rows."""
    pairs = (pair for pair, stem in _twins(record) if snake_case(stem).rpartition("_")[2] in COMPLETIONS)
    return next(pairs, None)


def _twins(record: Record) -> Iterator[tuple[Pair, str]]:
    """Yield the columns whose names only differ in their ends, with what they begin with."""
    for first, second in ENDS:
        others = {_stem(name): name for name in record if name.lower().endswith(second)}
        for name in record:
            if name.lower().endswith(first) and _stem(name) in others:
                yield (name, others[_stem(name)]), _stem(name)


def _stem(name: str) -> str:
    return name[:-1].rstrip("_- ")


def _columns_of_sides(record: Record, pair: Pair) -> Pair | None:
    """Return the columns with a judgement of each completion, such as `winner_model_a` and `winner_model_b`."""
    ends = tuple(name[-1].lower() for name in pair)
    for twins, stem in _twins(record):
        if tuple(name[-1].lower() for name in twins) == ends and set(snake_case(stem).split("_")) & JUDGEMENTS:
            return twins
    return None


def _first_wins(record: Record, pair: Pair, judges: tuple[str, ...]) -> float | Fault:
    """Return 1 if the first completion is better, 0 if the second one is, 0.5 for a tie; else a fault."""
    if len(judges) == 1 and judges[0] not in SIGNED:
        score = _named_first(record[judges[0]], pair)
        if score is not None:
            return score
        value = str(record[judges[0]])[:40]
        message = f"{judges[0]} is {value!r}, which names neither {pair[0]} nor {pair[1]} nor a tie"
        return Fault(CODE, message, f"write {pair[0]}, {pair[1]} or tie", column=judges[0])
    numbers = []
    for name in judges:
        value = record[name]
        number = float(value) if isinstance(value, bool) else to_number(value)
        if number is None:
            message = f"{name} is {str(value)[:40]!r}, which is no number"
            return Fault(CODE, message, "write a number, or remove the row", column=name)
        numbers.append(number)
    first, second = numbers if len(numbers) == 2 else (0.0, numbers[0])
    if "rank" in snake_case(judges[0]).split("_"):
        first, second = second, first
    return 0.5 if first == second else float(first > second)


def _named_first(value: object, pair: Pair) -> float | None:
    """Return 1 if a text names the first of two completions, 0 for the second, 0.5 for a tie, None for other texts."""
    text = str(value).lower().strip().removesuffix(".0")
    if text.startswith(("tie", "both")) or text in ("neither", "equal", "0.5"):
        return 0.5
    if pair[0] == "human_ref_A" and text in ("0", "1"):  # SHP: 1 if the first is better
        return float(text)
    for score, name in ((1.0, pair[0]), (0.0, pair[1])):
        end = name.lower()[-1]
        between = "[ _-]?" if end.isdecimal() else "[ _-]"
        if text == name.lower() or re.fullmatch(f"([a-z]+{between})?{end}", text):
            return score
    return None
