"""Bootstrap intervals of metrics, and of paired differences between two models.

Examples are drawn with replacement, the metric is computed for each draw, and the interval lies between percentiles of
these values. Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 (percentile interval)
and 10.3 and 16 (paired samples are resampled as pairs).

Limits: with fewer than about 30 examples the interval is too narrow, and a metric at its bound (every answer correct)
has an interval of zero width. The calibration error has a different interval (`calibration`), because its estimate is
biased and resampling doubles the bias.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypedDict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kamerton.errors import Fault, UserError
from kamerton.score.calibration import ECE, difference_bounds, error_bounds, overestimate
from kamerton.score.columns import is_labelled, label_indices, labels_of
from kamerton.score.label_metrics import label_metrics
from kamerton.score.metrics import calibration_counts, calibration_error, summed_counts, table_metrics
from kamerton.words import listed

RESAMPLES = 2000
_CELLS_AT_ONCE = 4_000_000  # bounds the memory of one chunk of resamples to about 100 MB

Values = dict[str, NDArray[np.float64]]


class Difference(TypedDict):
    """`tuned - base` of one metric on the same examples, with its interval."""

    difference: float
    low: float
    high: float


def intervals(
    table: pa.Table, *, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return the bootstrap interval (low, high) of every metric of `metrics.compute`.

    Percentile intervals; for `ece` see `calibration`. A metric that is undefined on the table or on a resample has
    none. Custom metrics of the whole table have the 95 % interval that is stored with them. Deterministic in `seed`.
    """
    values = resample([table], resamples, seed)[0]
    bounds = {name: interval for name, sample in values.items() if (interval := percentiles(sample, level))}
    if ECE in bounds:
        counts = calibration_counts(table)
        error = float(calibration_error(counts.sum(axis=0)))
        bounds[ECE] = error_bounds(error, values[ECE], overestimate(counts), level) or bounds[ECE]
    for name, metric in table_metrics(table).items():
        if metric["low"] is not None and metric["high"] is not None:
            bounds[name] = metric["low"], metric["high"]
    return bounds


def paired_differences(
    base: pa.Table, tuned: pa.Table, *, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 0
) -> dict[str, Difference]:
    """Return differences `tuned - base` of the metrics that both tables have, with paired bootstrap intervals.

    Rows are joined on `example_id`, in any order; all metrics come from one set of resamples. Raises `UserError` if the
    tables hold different examples or repeat one.
    """
    base, tuned = joined(base, tuned)
    base_point, tuned_point = points(base), points(tuned)
    base_values, tuned_values = resample([base, tuned], resamples, seed)
    result: dict[str, Difference] = {}
    for name in [name for name in base_values if name in tuned_values]:
        difference, sample = float(tuned_point[name] - base_point[name]), tuned_values[name] - base_values[name]
        bounds = percentiles(sample, level)
        if bounds and name == ECE:
            before, after = (overestimate(calibration_counts(table)) for table in (base, tuned))
            bounds = difference_bounds(difference, sample, before, after, level)
        if bounds:
            result[name] = {"difference": difference, "low": bounds[0], "high": bounds[1]}
    return result


def joined(base: pa.Table, tuned: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return both tables sorted by example id; raises `UserError` unless they hold the same examples."""
    faults = []
    ids: list[set[str]] = []
    for name, table in (("base", base), ("tuned", tuned)):
        ids.append(set(table["example_id"].to_pylist()))
        repeats = table.num_rows - len(ids[-1])
        if repeats:
            message, fix = f"the {name} score table repeats {repeats} example ids", "score each example once"
            faults.append(Fault("scores.repeated_examples", message, fix, column="example_id"))
    if ids[0] != ids[1]:
        only = f"{_only('base', ids[0] - ids[1])}, {_only('tuned', ids[1] - ids[0])}"
        message = f"the two score tables do not contain the same examples: {only}"
        fix = "score both models on the same split of the same data"
        faults.append(Fault("scores.different_examples", message, fix, column="example_id"))
    if faults:
        raise UserError(faults)
    return base.sort_by("example_id"), tuned.sort_by("example_id")


def _only(name: str, ids: set[str]) -> str:
    return f"{len(ids)} only in the {name} table{f' ({listed(sorted(ids), 3)})' if ids else ''}"


def resample(tables: Sequence[pa.Table], resamples: int = RESAMPLES, seed: int = 0) -> list[Values]:
    """Return the metrics of each table, `[resamples]`, on the same draws of rows; all tables have equally many rows."""
    rows = tables[0].num_rows
    if not rows:
        return [{} for _ in tables]
    samplers = [Sampler(table) for table in tables]
    chunk = max(1, _CELLS_AT_ONCE // max(rows, *(sampler.cells for sampler in samplers)))
    parts: list[list[Values]] = [[] for _ in tables]
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, chunk):
        draws = generator.integers(rows, size=(min(chunk, resamples - start), rows))
        for part, sampler in zip(parts, samplers, strict=True):
            part.append(sampler.values(draws))
    return [{name: np.concatenate([values[name] for values in part]) for name in part[0]} for part in parts]


class Sampler:
    """A table's per-row counts, for summing over many draws of its rows.

    Without `calibrated` there is no calibration error: rows of two tables may have log-probabilities of other labels.
    """

    def __init__(self, table: pa.Table, *, calibrated: bool = True) -> None:
        self.counts, self.formulas = summed_counts(table)
        self.labels = len(labels_of(table)) if is_labelled(table) else 0
        self.gaps = calibration_counts(table) if self.labels and calibrated else None
        self.cells = self.labels * (self.labels + 1) + 1
        truth, guess = label_indices(table)
        cell = truth * (self.labels + 1) + np.where(guess < 0, self.labels, guess)
        self.cell = np.where(truth < 0, self.cells - 1, cell)  # the last cell collects rows without a label

    def values(self, draws: NDArray[np.int64]) -> Values:
        """Return the metrics of each draw, `[draws]`; `draws` are row numbers, `[draws, drawn rows]`."""
        rows = len(self.counts)
        flat = draws + np.arange(len(draws))[:, None] * rows
        times = np.bincount(flat.ravel(), minlength=len(draws) * rows).reshape(len(draws), rows).astype(np.float64)
        values = self.formulas(times @ self.counts)
        if self.labels:
            flat = self.cell[draws] + np.arange(len(draws))[:, None] * self.cells
            counts = np.bincount(flat.ravel(), minlength=len(draws) * self.cells).reshape(len(draws), -1)
            values |= label_metrics(counts[:, :-1].reshape(-1, self.labels, self.labels + 1))
        if self.gaps is not None:
            values[ECE] = calibration_error(times @ self.gaps)
        return values


def points(table: pa.Table) -> Values:
    """Return the metrics of the table itself: the draw with every row once."""
    rows = np.arange(table.num_rows)[None]
    return {name: value[0] for name, value in Sampler(table).values(rows).items()}


def percentiles(sample: NDArray[np.float64], level: float = 0.95) -> tuple[float, float] | None:
    """Return the interval between percentiles of resampled values; None if one is undefined."""
    if not np.isfinite(sample).all():
        return None
    low, high = np.quantile(sample, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def swapped(base: pa.Table, tuned: pa.Table, flips: Iterable[NDArray[np.uint8]]) -> Values:
    """Return `tuned - base` of every metric, `[permutations]`, with the answers of some examples swapped.

    `flips` are chunks of 0/1 masks of the examples to swap, `[permutations, rows]`. For equally good models, all
    these values are as likely as the observed one, so any metric of a table can be tested. Source: Noreen,
    Computer-Intensive Methods for Testing Hypotheses, 1989 (approximate randomization).
    """
    rows = base.num_rows
    sampler = Sampler(pa.concat_tables([base, tuned], promote_options="default"), calibrated=False)
    step = max(1, _CELLS_AT_ONCE // max(rows, sampler.cells))
    parts = []
    for chunk in (flip[start : start + step] for flip in flips for start in range(0, len(flip), step)):
        base_rows = np.arange(rows) + rows * chunk.astype(np.int64)  # 0: the row of base, 1: the row of tuned
        base_values, tuned_values = sampler.values(base_rows), sampler.values((base_rows + rows) % (2 * rows))
        parts.append({name: tuned_values[name] - base_values[name] for name in base_values})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
