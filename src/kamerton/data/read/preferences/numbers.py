"""Scores and ranks: the names of their columns, and their values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from kamerton.data.read.columns.kinds import snake_case

SCORES = ("scores", "ratings", "rewards", "overall_scores")  # of a list; higher is better
RANKS = ("ranks", "ranking", "rankings")  # of a list; lower is better
NUMBERS = ("overall_score", "score", "rating", "reward", "helpfulness", "rank")  # of one completion


def find_number(names: Iterable[str]) -> str | None:
    """Return the column that scores or ranks one completion: by a usual name, else by the last word of its name."""
    present = {snake_case(str(name)): str(name) for name in names}
    by_word = [name for name in present if name.rpartition("_")[2] in NUMBERS]
    return next((present[name] for name in (*NUMBERS, *by_word) if name in present), None)


def is_rank(name: str) -> bool:
    """Return whether lower values of a column are better."""
    return name in RANKS or snake_case(name).rpartition("_")[2] == "rank"


def to_number(value: Any) -> float | None:
    """Return a score as a number; None for what is none, or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
