"""How sure a number is: bootstrap intervals of metrics, and of paired differences between two models.

Examples are drawn with replacement, the metric is computed again for each draw, and the interval runs between
the percentiles of these values. Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
chapters 13 (percentile interval) and 10.3 and 16 (paired samples are resampled as pairs).

Two limits to know. With fewer than about 30 examples the interval is too narrow, and a metric at its bound
(every answer right) has an interval of no width. The calibration error has an interval of its own (`calibration`): its
estimate is biased, which resampling doubles.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypedDict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kamerton.errors import Fault, UserError
from kamerton.score.calibration import ECE, difference_bounds, error_bounds, overestimate
from kamerton.score.columns import is_labelled, label_indices, labels_of
from kamerton.score.metrics import calibration_counts, calibration_error, label_metrics, own_of_whole, summed_counts

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
    """Bootstrap interval (low, high) of every metric of `metrics.compute`: percentiles, of `ece` see `calibration`.

    A metric that is undefined on the table or on a resample has no interval. Deterministic in `seed`. A metric of
    one's own that is a number of the whole table has the 95 % interval that was computed with it.
    """
    values = resample([table], resamples, seed)[0]
    found = {name: bounds for name, sample in values.items() if (bounds := percentiles(sample, level))}
    if ECE in found:
        counts = calibration_counts(table)
        error = float(calibration_error(counts.sum(axis=0)))
        found[ECE] = error_bounds(error, values[ECE], overestimate(counts), level) or found[ECE]
    return found | {
        name: (own["low"], own["high"])
        for name, own in own_of_whole(table).items()
        if own["low"] is not None and own["high"] is not None
    }


def paired_differences(
    base: pa.Table, tuned: pa.Table, *, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 0
) -> dict[str, Difference]:
    """Differences `tuned - base` of every metric that both tables have, with percentile bootstrap intervals (paired).

    Rows are joined on `example_id`, in any order; all metrics come from one set of resamples. Raises `UserError` when
    the tables hold different examples or repeat one.
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
    """Both tables sorted by example id, once it is sure that they hold the same examples."""
    faults = [fault for name, table in (("base", base), ("tuned", tuned)) for fault in _repeats(name, table)]
    ids: list[set[str]] = [set(table["example_id"].to_pylist()) for table in (base, tuned)]
    if ids[0] != ids[1]:
        only = f"{_only('base', ids[0] - ids[1])}, {_only('tuned', ids[1] - ids[0])}"
        message = f"the two score tables do not hold the same examples: {only}"
        fix = "score both models on the same split of the same data"
        faults.append(Fault("scores.different_examples", message, fix, column="example_id"))
    if faults:
        raise UserError(faults)
    return base.sort_by("example_id"), tuned.sort_by("example_id")


def _only(name: str, ids: set[str]) -> str:
    few = f" ({', '.join(sorted(ids)[:3])}{', …' if len(ids) > 3 else ''})" if ids else ""
    return f"{len(ids)} only in the {name} table{few}"


def _repeats(name: str, table: pa.Table) -> list[Fault]:
    ids = table["example_id"].to_pylist()
    repeats = len(ids) - len(set(ids))
    message = f"the {name} score table repeats {repeats} example ids"
    fix = "score each example once"
    return [Fault("scores.repeated_examples", message, fix, column="example_id")] if repeats else []


def resample(tables: Sequence[pa.Table], resamples: int = RESAMPLES, seed: int = 0) -> list[Values]:
    """Metric values of each table on the same `resamples` draws of rows (all tables hold equally many)."""
    rows = tables[0].num_rows
    if not rows:
        return [{} for _ in tables]
    samplers = [Sampler(table) for table in tables]
    chunk = max(1, _CELLS_AT_ONCE // max(rows, *(sampler.cells for sampler in samplers)))
    parts: list[list[Values]] = [[] for _ in tables]
    for draws in _draws(rows, resamples, chunk, seed):
        for part, sampler in zip(parts, samplers, strict=True):
            part.append(sampler.values(draws))
    return [{name: np.concatenate([values[name] for values in part]) for name in part[0]} for part in parts]


def _draws(rows: int, resamples: int, chunk: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Row numbers drawn with replacement, `[up to chunk, rows]` at a time."""
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, chunk):
        yield generator.integers(rows, size=(min(chunk, resamples - start), rows))


class Sampler:
    """One table's per-row counts, ready to be summed over many draws of its rows.

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
        """Metrics of each draw; draws `[draws, rows]`."""
        times = _times(draws, len(self.counts))
        values = self.formulas(times @ self.counts)
        if self.labels:
            flat = self.cell[draws] + np.arange(len(draws))[:, None] * self.cells
            counts = np.bincount(flat.ravel(), minlength=len(draws) * self.cells).reshape(len(draws), -1)
            values |= label_metrics(counts[:, :-1].reshape(-1, self.labels, self.labels + 1))
        if self.gaps is not None:
            values[ECE] = calibration_error(times @ self.gaps)
        return values


def _times(draws: NDArray[np.int64], rows: int) -> NDArray[np.float64]:
    """How often each row was drawn, `[draws, rows]`."""
    flat = draws + np.arange(len(draws))[:, None] * rows
    times = np.bincount(flat.ravel(), minlength=len(draws) * rows).reshape(len(draws), rows)
    return np.asarray(times.astype(np.float64))


def points(table: pa.Table) -> Values:
    """The metrics of the table itself: the draw that takes every row once."""
    rows = np.arange(table.num_rows)[None]
    return {name: value[0] for name, value in Sampler(table).values(rows).items()}


def percentiles(sample: NDArray[np.float64], level: float = 0.95) -> tuple[float, float] | None:
    """The interval between the percentiles of resampled values; None where one is undefined."""
    if not np.isfinite(sample).all():
        return None
    low, high = np.quantile(sample, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def swapped(base: pa.Table, tuned: pa.Table, flips: Iterable[NDArray[np.uint8]]) -> Values:
    """`tuned - base` of every metric when the answers of some examples change sides: `[permutations]`.

    `flips` says for each permutation which examples change sides, `[permutations, rows]` in chunks of 0 and 1. If the
    models did equally well, all these values would be as likely as the one observed. Any metric of a whole table can be
    tested so. Source: Noreen, Computer-Intensive Methods for Testing Hypotheses, 1989 (approximate randomization).
    """
    rows = base.num_rows
    sampler = Sampler(pa.concat_tables([base, tuned], promote_options="default"), calibrated=False)
    step = max(1, _CELLS_AT_ONCE // max(rows, sampler.cells))
    parts = []
    for chunk in (flip[start : start + step] for flip in flips for start in range(0, len(flip), step)):
        moved = np.arange(rows) + rows * chunk.astype(np.int64)  # the base side's rows: 0 its own, 1 the other's
        values, others = sampler.values(moved), sampler.values((moved + rows) % (2 * rows))
        parts.append({name: others[name] - values[name] for name in values})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
