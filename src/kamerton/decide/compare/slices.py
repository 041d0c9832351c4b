"""The parts of a test set: how good each side is there, and where that differs from elsewhere or from the baseline.

Slices speak of metrics that are a share over examples (`outcomes.ratios`). Against the baseline the tests are those of
the whole set (`assess`). Against all other examples: Fisher's exact test with mid-p for right and wrong answers of one
run, else Student's t on the examples' shares, taken as means over the runs. Both are corrected (Holm) over the groups
of a field. Intervals of a share of right answers are Wilson's, which hold for few examples as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from kamerton.decide.compare.assess import ONE_SIDED, Measured, sure_drop, verdict
from kamerton.decide.compare.comparison import Slice
from kamerton.decide.compare.fields import Groups
from kamerton.decide.compare.ratios import Ratio
from kamerton.decide.compare.significance import (
    LEVEL,
    Runs,
    Spread,
    Test,
    holm,
    mcnemar,
    over_seeds_and_examples,
    sign_flip,
)
from kamerton.score.intervals import percentiles
from kamerton.score.metrics import finite

RESAMPLES = 1000
PERMUTATIONS = 1999
FEW = 10  # examples below which several seeds are not tested
_CELLS = 4_000_000

Floats = NDArray[np.float64]
Bounds = tuple[float, float]
UNKNOWN = (math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class _Part:
    """One side in one slice: each run's shares there, their resamples, and the examples' shares elsewhere."""

    inside: tuple[Ratio, ...]
    outside: tuple[Ratio, ...]
    runs: Runs

    @property
    def value(self) -> float:
        return float(self.runs.values.mean())

    @property
    def is_simple(self) -> bool:
        """One run, whose answers are right or wrong."""
        return len(self.inside) == 1 and self.inside[0].right is not None


def slice_metrics(sides: Sequence[Measured]) -> list[str]:
    """The metrics that slices can be had of: every run of every side has them."""
    known = [set(shares) for side in sides for shares in side.shares]
    return [name for name in sides[0].shares[0] if all(name in one for one in known)]


def slice_by(sides: Sequence[Measured], fields: Mapping[str, Groups], metric: str, seed: int = 0) -> list[Slice]:
    """Every group of every field for every candidate (all sides but the first), in one metric of `slice_metrics`."""
    found = []
    for field, names in fields.items():
        parts = list(_parts(sides, metric, names, seed))
        for at, side in enumerate(sides[1:], 1):
            asked = partial(_slice, side.group.name, field, metric, metric in sides[0].lower | side.lower)
            rows = [asked(name, each[0], each[at]) for name, each in parts]
            found += _corrected(rows)
    return found


def _parts(sides: Sequence[Measured], metric: str, names: Groups, seed: int) -> Iterator[tuple[str, list[_Part]]]:
    """Each group of a field with every side's part in it; the largest group first."""
    column = np.array(["" if name is None else name for name in names], object)
    known = np.array([name is not None for name in names])
    values, counts = np.unique(column[known].astype(str), return_counts=True)
    for value in values[np.argsort(-counts, kind="stable")]:
        chosen = known & (column == value)
        weights = _weights(int(chosen.sum()), seed)
        yield str(value), [_part(side, metric, chosen, weights) for side in sides]


def _weights(examples: int, seed: int) -> list[NDArray[np.uint8]]:
    """How often each example is drawn in each resample, `[resamples, examples]` in chunks of small numbers."""
    generator = np.random.default_rng(seed)
    step = max(1, _CELLS // max(examples, 1))
    chunks = []
    for start in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - start)
        draws = generator.integers(examples, size=(size, examples)) + np.arange(size)[:, None] * examples
        counts = np.bincount(draws.ravel(), minlength=size * examples)
        chunks.append(counts.reshape(size, examples).astype(np.uint8))
    return chunks


def _part(side: Measured, metric: str, chosen: NDArray[np.bool_], weights: list[NDArray[np.uint8]]) -> _Part:
    every = [shares[metric] for shares in side.shares]
    inside = tuple(Ratio(one.top[chosen], one.bottom[chosen]) for one in every)
    outside = tuple(Ratio(one.top[~chosen], one.bottom[~chosen]) for one in every)
    tops, bottoms = (np.array([getattr(one, name) for one in inside]) for name in ("top", "bottom"))
    with np.errstate(divide="ignore", invalid="ignore"):
        resamples = np.concatenate([_shares(chunk.astype(np.float64), tops, bottoms) for chunk in weights]).T
        values = tops.sum(axis=1) / bottoms.sum(axis=1)
    resamples = np.where(np.isfinite(resamples), resamples, values[:, None])  # a draw of examples that do not count
    return _Part(inside, outside, Runs(values, resamples, side.group.trained))


def _shares(weights: Floats, tops: Floats, bottoms: Floats) -> Floats:
    """Each run's share in each resample, `[resamples, runs]`."""
    return np.asarray((weights @ tops.T) / (weights @ bottoms.T))


def _slice(candidate: str, field: str, metric: str, lower: bool, name: str, base: _Part, side: _Part) -> Slice:
    examples = len(base.inside[0].top)
    low, high = _interval(side, examples)
    change = side.value - base.value
    (bounds, inner), test = _against(base, side, change, examples)
    worse = test.p_higher if lower else test.p_lower
    return Slice(
        candidate=candidate,
        field=field,
        group=name,
        metric=metric,
        examples=examples,
        baseline_value=finite(base.value),
        value=finite(side.value),
        low=finite(low),
        high=finite(high),
        difference=finite(change),
        difference_low=finite(bounds[0]),
        difference_high=finite(bounds[1]),
        p_rest=finite(_against_rest(side)),
        p=finite(test.p),
        p_worse=finite(worse),
        sure_drop=sure_drop(inner, lower=lower),
        lower_is_better=lower,
    )


def _interval(side: _Part, examples: int) -> tuple[float, float]:
    if side.is_simple:
        right, count = int(side.inside[0].top.sum()), int(side.inside[0].bottom.sum())
        if not count:
            return math.nan, math.nan
        found = stats.binomtest(right, count).proportion_ci(1 - LEVEL, method="wilson")
        return float(found.low), float(found.high)
    if len(side.inside) > 1 and examples < FEW:
        return math.nan, math.nan
    if len(side.inside) == 1:
        return percentiles(side.runs.resamples[0]) or (math.nan, math.nan)
    return over_seeds_and_examples([side.runs], examples).bounds(side.value)


def _against(base: _Part, side: _Part, change: float, examples: int) -> tuple[tuple[Bounds, Bounds | None], Test]:
    """The difference from the baseline in this slice: its 95 % and 90 % intervals, and its test."""
    if len(base.inside) > 1 or len(side.inside) > 1:
        if examples < FEW:  # their variance cannot be told: seeds that agree on one example prove nothing
            return (UNKNOWN, None), Test("", math.nan, math.nan, math.nan)
        spread = over_seeds_and_examples([base.runs, side.runs], examples)
        return (spread.bounds(change), spread.bounds(change, ONE_SIDED)), spread.test(change)
    before, after = base.inside[0], side.inside[0]
    resamples = side.runs.resamples[0] - base.runs.resamples[0]
    bounds = percentiles(resamples) or UNKNOWN, percentiles(resamples, ONE_SIDED)
    if base.is_simple and side.is_simple and np.array_equal(before.bottom, after.bottom):
        return bounds, mcnemar(int((after.top > before.top).sum()), int((after.top < before.top).sum()))
    moved = after.top / max(after.bottom.sum(), 1) - before.top / max(before.bottom.sum(), 1)
    return bounds, sign_flip(moved, permutations=PERMUTATIONS)


def _against_rest(side: _Part) -> float:
    """Whether the side does otherwise here than on all other examples."""
    if side.is_simple:
        inside, outside = side.inside[0], side.outside[0]
        right, count = int(inside.top.sum()), int(inside.bottom.sum())
        return _fisher(right, count, right + int(outside.top.sum()), count + int(outside.bottom.sum()))
    whole = sum(one.top.sum() for one in (*side.inside, *side.outside)) / max(
        sum(one.bottom.sum() for one in (*side.inside, *side.outside)), 1
    )
    here, elsewhere = (
        np.mean([one.top - whole * one.bottom for one in part], axis=0) for part in (side.inside, side.outside)
    )
    return _student(here, elsewhere)


def _student(one: Floats, other: Floats) -> float:
    """Two-sided p of Student's t-test for two independent samples."""
    freedom = len(one) + len(other) - 2
    if min(len(one), len(other)) == 0 or freedom < 1:
        return math.nan
    pooled = (one.var() * len(one) + other.var() * len(other)) / freedom
    error = math.sqrt(pooled * (1 / len(one) + 1 / len(other)))
    return Spread(error, freedom).test(float(one.mean() - other.mean())).p


def _fisher(right: int, count: int, all_right: int, total: int) -> float:
    """Fisher's exact test of one group's right answers against all, mid-p, two-sided as twice the smaller tail."""
    law = stats.hypergeom(total, all_right, count)
    half = float(law.pmf(right)) / 2
    lower = float(law.cdf(right)) - half
    return min(1.0, 2 * min(lower, 1 - lower))


def _corrected(rows: list[Slice]) -> list[Slice]:
    """The slices of one field and candidate with their p-values corrected, and the verdicts that follow."""
    columns = [holm([getattr(row, name) for row in rows]) for name in ("p", "p_rest", "p_worse")]
    return [
        replace(row, p=p, p_rest=rest, p_worse=worse, verdict=verdict(row.difference, p, lower=row.lower_is_better))
        for row, p, rest, worse in zip(rows, *columns, strict=True)
    ]
