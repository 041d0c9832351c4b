"""Amazon Nova's preferences: turns whose last one has candidates, each with the label preferred or non-preferred."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kamerton.data.form import Form
from kamerton.data.options import Columns
from kamerton.data.read.columns.converted import CANDIDATES, candidate_turns
from kamerton.data.read.preferences.sides import CODE, Completion, Record, Side, sides_of
from kamerton.errors import Fault

LABEL = "preferenceLabel"
SCORES = {"preferred": 1.0, "non-preferred": 0.0}


def read_candidates(record: Record, columns: Columns, form: Form) -> list[Side] | Fault | None:
    """Return the sides of a row whose last turn has candidates; None for other rows."""
    name = columns.messages or columns.prompt or "messages"
    turns = candidate_turns(record.get(name))
    if turns is None:
        return None
    *before, last = turns
    place = f"{name}[{len(before)}].{CANDIDATES}"
    completions = []
    for i, candidate in enumerate(last[CANDIDATES]):
        score = SCORES.get(str(candidate.get(LABEL))) if isinstance(candidate, Mapping) else None
        if score is None:
            message = f"{place}[{i}] has no {LABEL} that is {' or '.join(SCORES)}"
            return Fault(CODE, message, f"add {LABEL}, or remove the row", column=f"{place}[{i}]")
        turn: dict[str, Any] = {"role": last.get("role"), **candidate}
        del turn[LABEL]
        completions.append(Completion(f"{place}[{i}]", CANDIDATES, turn, score))
    if len({completion.score for completion in completions}) < 2:
        message = f"{place} has no {' and '.join(SCORES)} candidate"
        return Fault(CODE, message, "add the other one, or remove the row", column=place)
    return sides_of({**record, name: before}, completions, (), columns, form)
