"""The values of a trial's objective and the violation of its constraints, from its runs' records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from kamerton.config.validation import NOT_VALIDATED
from kamerton.run.record import Record


def values(names: Sequence[str], records: Sequence[Record]) -> list[float]:
    """Return the objective of a trial, a value for each name: means over the records of its runs."""
    return [_mean(name, records) for name in names]


def excess(bounds: Mapping[str, float], directions: Mapping[str, str], records: Sequence[Record]) -> dict[str, float]:
    """Return by name how far a trial exceeds its bound; 0 or less if it is within the bound, as in Optuna.

    A bound is the largest allowed value, or the smallest one of a value to `maximize`, by `directions`.
    """
    return {
        name: bound - _mean(name, records) if directions[name] == "maximize" else _mean(name, records) - bound
        for name, bound in bounds.items()
    }


def watched(names: Sequence[str]) -> str | None:
    """Return the logged metric that pruning uses; None for several objectives, or one that validation does not log."""
    return f"val/{names[0]}" if len(names) == 1 and names[0] not in NOT_VALIDATED else None


def _mean(name: str, records: Sequence[Record]) -> float:
    values = [_value(name, record) for record in records]
    return sum(values) / len(values)


def _value(name: str, record: Record) -> float:
    if name == "seconds":
        value = record.progress.seconds
    elif name == "parameters":
        value = record.model.trainable_parameters
    else:
        value = record.metrics["best"].get(name, math.nan)  # of the weights that the run keeps; NaN if undefined
    if value is None:
        raise KeyError(name)
    return float(value)
