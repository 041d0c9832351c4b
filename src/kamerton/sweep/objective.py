"""What a trial is worth: the values of its objective, and how far it is from its bounds, from its runs' records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kamerton.config.schema import Objective
from kamerton.config.sweep import DIRECTIONS

Record = Mapping[str, Any]


def values(names: Sequence[Objective], records: Sequence[Record]) -> list[float]:
    """The objective of a trial, one value a name: means over the records of its runs."""
    return [_mean(name, records) for name in names]


def excess(bounds: Mapping[Objective, float], records: Sequence[Record]) -> dict[str, float]:
    """By name, how far a trial is beyond the worst value allowed; 0 or less where it keeps the bound, as Optuna has it.

    The worst value is the largest one, of what is maximised the smallest.
    """
    return {
        name: bound - _mean(name, records) if DIRECTIONS[name] == "maximize" else _mean(name, records) - bound
        for name, bound in bounds.items()
    }


def watched(names: Sequence[Objective]) -> str | None:
    """The logged value that pruning goes by; None where there are several objectives or none that validation logs."""
    return f"val/{names[0]}" if len(names) == 1 and names[0] in _VALIDATED else None


_VALIDATED = ("loss", "perplexity", "token_accuracy")


def _mean(name: Objective, records: Sequence[Record]) -> float:
    found = [_value(name, record) for record in records]
    return sum(found) / len(found)


def _value(name: Objective, record: Record) -> float:
    if name == "seconds":
        return float(record["progress"]["seconds"])
    if name == "parameters":
        return float(record["model"]["trainable_parameters"])
    return float(record["metrics"]["best"][name])  # of the weights that the run keeps
