"""Weights in the loss, of turns and rows: OpenAI's `weight`, LLaMA-Factory's `loss_weight`, Axolotl's `training`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kamerton.errors import Fault

MAX_WEIGHT = 1e6  # products of a turn's and a row's weight, summed over tokens, stay far from overflow
FLAGS = ("train", "training")  # true or false
WEIGHTS = ("weight", "loss_weight", "sample_weight", *FLAGS)


def turn_weight(item: Mapping[str, Any], place: str) -> tuple[float | None, list[Fault]]:
    """Return the weight that a turn gives (None without), and the faults."""
    values = {name: item[name] for name in WEIGHTS if item.get(name) is not None}
    weights, faults = set(), []
    for name, value in values.items():
        weight = read_weight(name, value)
        if weight is None:
            number = f"write a number from 0 (only read) to {MAX_WEIGHT:,.0f}, such as 0.5"
            fix = "write true or false" if name in FLAGS else number
            faults.append(Fault("bad-messages", f"{name} is {value!r}", fix, column=f"{place}.{name}"))
        weights.add(weight)
    if not faults and len(weights) > 1:
        message = f"{' and '.join(values)} contradict each other"
        faults.append(Fault("bad-messages", message, "keep one of them", column=f"{place}.{next(iter(values))}"))
    return (None, faults) if faults or not values else (weights.pop(), [])


def read_weight(name: str, value: object) -> float | None:
    """Return a weight from 0 to `MAX_WEIGHT`, of a flag also true or false; None for anything else."""
    if isinstance(value, bool):
        return float(value) if name in FLAGS else None
    if not isinstance(value, int | float) or not 0 <= value <= MAX_WEIGHT:
        return None
    return float(value) if name not in FLAGS or value in (0, 1) else None


def row_weight(record: Mapping[str, Any], name: str) -> tuple[float, list[Fault]]:
    """Return the weight of a row by its column `name`, also from text as in CSV files (empty: 1), and the faults."""
    value = record.get(name) if name else None
    if isinstance(value, str):
        value = _parse_text(value.strip(), name)
    if value is None or value != value:  # noqa: PLR0124 - NaN: no value
        return 1.0, []
    weight = read_weight(name, value)
    if weight is None:
        number = f"a number above 0, up to {MAX_WEIGHT:,.0f}{', true or false' if name in FLAGS else ''}"
        fix = f"write {number}, or, if it is no weight in the loss, 'data.columns.metadata=[{name}]'"
        return 1.0, [Fault("bad-weight", f"{name} is {value!r}", fix, column=name)]
    if weight == 0:
        fix = "remove the row, or set data.policy.no-targets=drop"
        return 1.0, [Fault("no-targets", f"{name} is {value!r}: the row is not trained on", fix, column=name)]
    return weight, []


def _parse_text(text: str, name: str) -> object:
    if not text:
        return None
    if name == "train" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return float(text)
    except ValueError:
        return text
