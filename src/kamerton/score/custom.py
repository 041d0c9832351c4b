"""Metrics of one's own: a function of the scores table, named by a `_target_` in `metrics.NAME`.

It returns a number for each example, which becomes a column of the table (its mean is the metric, and everything that
resamples or compares tables takes it in), or one number for the whole table, which is kept in the table's schema with
an interval from `RESAMPLES` draws of the examples. A class below `torchmetrics.text` may stand there too: its value
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
from kamerton.score.metrics import OWN, OWN_LOWER, OWN_WHOLE, compute, finite

RESAMPLES = 200  # of a metric that has to be computed anew for each draw; enough for two digits of an interval


def with_own_metrics(
    table: pa.Table, metrics: Mapping[str, Mapping[str, Any] | None], allowed: Sequence[str] = ()
) -> pa.Table:
    """The table with the value of each metric; what it had of such metrics goes.

    More is better, unless the function (or torchmetrics' class) has the attribute `higher_is_better = False`.

    Raises `RunFailed` naming the metric that raised, returned something else, or has the name of another.
    """
    table = _without(table)
    whole: dict[str, dict[str, float | None]] = {}
    lower: list[str] = []
    taken = set(compute(table))
    for name, node in metrics.items():
        if node is None:
            continue
        if name in taken:
            raise _failed(name, f"metrics.{name} has the name of a metric that is there already", "rename it")
        function = metric_function(node, allowed)
        values = _called(name, function, table)
        if getattr(function, "higher_is_better", None) is False:
            lower.append(name)
        if isinstance(values, float):
            whole[name] = {"value": finite(values), **_interval(name, function, table)}
        else:
            table = table.append_column(pa.field(f"{OWN}{name}", pa.float64()), pa.array(values, from_pandas=True))
    said = {key: json.dumps(value) for key, value in ((OWN_WHOLE, whole), (OWN_LOWER, lower)) if value}
    return table.replace_schema_metadata({**(table.schema.metadata or {}), **said}) if said else table


def _without(table: pa.Table) -> pa.Table:
    """The table without metrics of one's own: of folds that were joined, those of the whole would be the first's."""
    metadata = {key: value for key, value in (table.schema.metadata or {}).items() if key not in (OWN_WHOLE, OWN_LOWER)}
    bare = table.drop_columns([name for name in table.column_names if name.startswith(OWN)])
    return bare.replace_schema_metadata(metadata)


def _called(name: str, function: Callable[[pa.Table], Any], table: pa.Table) -> float | NDArray[np.float64]:
    try:
        found = np.asarray(function(table), dtype=np.float64)
    except Exception as error:  # a function of the user's may raise anything
        message = f"metrics.{name} failed: {type(error).__name__}: {error}"
        raise _failed(name, message, "correct the function, or leave the metric out") from error
    if found.ndim == 0:
        return float(found)
    if found.shape != (table.num_rows,):
        message = f"metrics.{name} returned an array of shape {found.shape} for {table.num_rows} examples"
        raise _failed(name, message, "return one number, or one for each row of the table")
    return found


def _interval(name: str, function: Callable[[pa.Table], Any], table: pa.Table) -> dict[str, float | None]:
    """95 % percentile bootstrap; None where it is undefined on a draw."""
    if not table.num_rows:
        return {"low": None, "high": None}
    draws = np.random.default_rng(0).integers(table.num_rows, size=(RESAMPLES, table.num_rows))
    try:
        sample = [_called(name, function, table.take(pa.array(draw))) for draw in draws]
    except RunFailed:
        return {"low": None, "high": None}
    if not all(isinstance(value, float) and math.isfinite(value) for value in sample):
        return {"low": None, "high": None}
    low, high = np.quantile(np.array(sample), [0.025, 0.975])
    return {"low": float(low), "high": float(high)}


def _failed(name: str, message: str, fix: str) -> RunFailed:
    return RunFailed(Fault("metrics.own", message, fix, column=f"metrics.{name}"))
