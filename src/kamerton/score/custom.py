"""Custom metrics: functions of the scores table, named by a `_target_` in `metrics.NAME`.

A function returns a number for each example, which becomes a column of the table (the metric is its mean, and all
resampling and comparing of tables includes it), or one number for the whole table, which is stored in the table's
schema with an interval from `RESAMPLES` draws of the examples. A class in `torchmetrics.text` is allowed too: its value
over predictions and targets is such a number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kamerton.config.targets import metric_function
from kamerton.errors import Fault, RunFailed
from kamerton.objective.grading import Reward
from kamerton.score.columns import REWARDS, finite
from kamerton.score.metrics import CUSTOM, CUSTOM_LOWER, CUSTOM_OF_TABLE, compute
from kamerton.score.rewards import with_rewards

RESAMPLES = 200  # the metric is called for each draw; enough for two digits of an interval


def with_custom_metrics(
    table: pa.Table,
    metrics: Mapping[str, Mapping[str, Any] | None],
    allowed: Sequence[str] = (),
    *,
    rewards: Sequence[Reward] = (),
    intervals: bool = True,
) -> pa.Table:
    """Return the table with the values of these custom metrics in place of those that it has, and with the rewards.

    Without `intervals`, metrics of the whole table are called once, not once for each resample.
    Higher is better unless the function (or torchmetrics class) has the attribute `higher_is_better = False`.

    Raises `RunFailed` if a metric fails, returns something else, or has the name of a built-in metric.
    """
    # Metrics of a table joined from folds would be those of the first fold.
    replaced = (CUSTOM_OF_TABLE, CUSTOM_LOWER, REWARDS)
    metadata = {key: value for key, value in (table.schema.metadata or {}).items() if key not in replaced}
    table = table.drop_columns([name for name in table.column_names if name.startswith(CUSTOM)])
    table = table.replace_schema_metadata(metadata)
    table = with_rewards(table, rewards)
    of_table: dict[str, dict[str, float | None]] = {}
    lower: list[str] = []
    taken = set(compute(table))
    for name, node in metrics.items():
        if node is None:
            continue
        if name in taken:
            raise _failed(name, f"metrics.{name} has the name of a built-in metric", "rename it")
        function = metric_function(node, allowed)
        values = _call(name, function, table)
        if getattr(function, "higher_is_better", None) is False:
            lower.append(name)
        if isinstance(values, float):
            of_table[name] = {
                "value": finite(values),
                **(_interval(name, function, table) if intervals else _NO_BOUNDS),
            }
        else:
            table = table.append_column(pa.field(f"{CUSTOM}{name}", pa.float64()), pa.array(values, from_pandas=True))
    added = {key: json.dumps(value) for key, value in ((CUSTOM_OF_TABLE, of_table), (CUSTOM_LOWER, lower)) if value}
    return table.replace_schema_metadata({**(table.schema.metadata or {}), **added}) if added else table


def _call(name: str, function: Callable[[pa.Table], Any], table: pa.Table) -> float | NDArray[np.float64]:
    """Return the value of a custom metric: one number, or one for each row."""
    try:
        values = np.asarray(function(table), dtype=np.float64)
    except Exception as error:  # custom code may raise anything
        message = f"metrics.{name} failed: {type(error).__name__}: {error}"
        raise _failed(name, message, "correct the function, or leave the metric out") from error
    if values.ndim == 0:
        return float(values)
    if values.shape != (table.num_rows,):
        message = f"metrics.{name} returned an array of shape {values.shape} for {table.num_rows} examples"
        raise _failed(name, message, "return one number, or one for each row of the table")
    return values


_NO_BOUNDS: dict[str, float | None] = {"low": None, "high": None}


def _interval(name: str, function: Callable[[pa.Table], Any], table: pa.Table) -> dict[str, float | None]:
    """Return the 95 % percentile bootstrap interval; bounds are None if the metric is undefined on a draw."""
    if not table.num_rows:
        return _NO_BOUNDS
    draws = np.random.default_rng(0).integers(table.num_rows, size=(RESAMPLES, table.num_rows))
    try:
        sample = [_call(name, function, table.take(pa.array(draw))) for draw in draws]
    except RunFailed:
        return _NO_BOUNDS
    if not all(isinstance(value, float) and math.isfinite(value) for value in sample):
        return _NO_BOUNDS
    low, high = np.quantile(np.array(sample), [0.025, 0.975])
    return {"low": float(low), "high": float(high)}


def _failed(name: str, message: str, fix: str) -> RunFailed:
    return RunFailed(Fault("metrics.own", message, fix, column=f"metrics.{name}"))
