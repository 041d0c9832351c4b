"""The values of a trial's objective and the violation of its constraints, from its runs' records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kamerton.config.schema import Objective
from kamerton.config.sweep import DIRECTIONS
from kamerton.config.validation import NOT_VALIDATED
from kamerton.run.record import Record


def values(names: Sequence[Objective], records: Sequence[Record]) -> list[float]:
    """Return the objective of a trial, a value for each name: means over the records of its runs."""
    return [_mean(name, records) for name in names]


def excess(bounds: Mapping[Objective, float], records: Sequence[Record]) -> dict[str, float]:
    """Return by name how far a trial exceeds its bound; 0 or less if it is within the bound, as in Optuna.

    A bound is the largest allowed value, or the smallest one of a maximised objective.
    """
    return {
        name: bound - _mean(name, records) if DIRECTIONS[name] == "maximize" else _mean(name, records) - bound
        for name, bound in bounds.items()
    }


def watched(names: Sequence[Objective]) -> str | None:
    """Return the logged metric that pruning uses; None for several objectives, or one that validation does not log."""
    return f"val/{names[0]}" if len(names) == 1 and names[0] not in NOT_VALIDATED else None


def _mean(name: Objective, records: Sequence[Record]) -> float:
    values = [_value(name, record) for record in records]
    return sum(values) / len(values)


def _value(name: Objective, record: Record) -> float:
    if name == "seconds":
        value = record.progress.seconds
    elif name == "parameters":
        value = record.model.trainable_parameters
    else:
        value = record.metrics["best"][name]  # of the weights that the run keeps
    if value is None:
        raise KeyError(name)
    return float(value)
