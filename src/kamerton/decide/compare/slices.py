"""Slices of a test set: each configuration's value there, compared with the baseline and with the other examples.

Slices use the ratio metrics (`ratios`). The tests against the baseline are those of the full test set (`assess`). The
tests against the other examples are Fisher's exact test with mid-p for correct and wrong answers of one run, otherwise
Student's t on the examples' values averaged over the runs. Both are corrected (Holm) over the groups of a field. The
interval of a share of correct answers is Wilson's, which also holds for few examples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

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
    StandardError,
    Test,
    holm,
    mcnemar,
    over_seeds_and_examples,
    sign_flip,
)
from kamerton.score.columns import finite
from kamerton.score.intervals import percentiles

RESAMPLES = 1000
PERMUTATIONS = 1999
MIN_EXAMPLES = 10  # fewer are not tested with several seeds
_CHUNK_CELLS = 4_000_000

Floats = NDArray[np.float64]
Bounds = tuple[float, float]
UNKNOWN = (math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class _Part:
    """One configuration in one slice: each run's ratios inside and outside of it, and values on resamples."""

    inside: tuple[Ratio, ...]
    outside: tuple[Ratio, ...]
    runs: Runs

    @property
    def value(self) -> float:
        return float(self.runs.values.mean())

    @property
    def is_simple(self) -> bool:
        """Whether this is a single run with correct and wrong answers."""
        return len(self.inside) == 1 and self.inside[0].right is not None


def slice_metrics(configurations: Sequence[Measured]) -> list[str]:
    """Return the metrics available for slices: the ratio metrics that every run has."""
    available = [set(ratios) for configuration in configurations for ratios in configuration.ratios]
    return [name for name in configurations[0].ratios[0] if all(name in names for names in available)]


def slice_by(
    configurations: Sequence[Measured], fields: Mapping[str, Groups], metric: str, seed: int = 0
) -> list[Slice]:
    """Return the slices of every candidate by every group of every field.

    The first of `configurations` is the baseline, the others are the candidates; `metric` is one of `slice_metrics`.
    """
    slices = []
    baseline, *candidates = configurations
    for field, names in fields.items():
        parts = list(_parts(configurations, metric, names, seed))
        for index, candidate in enumerate(candidates, 1):
            lower = metric in baseline.lower | candidate.lower
            rows = [
                _slice(candidate.group.name, field, metric, lower, name, by_configuration[0], by_configuration[index])
                for name, by_configuration in parts
            ]
            corrected = [holm([getattr(row, name) for row in rows]) for name in ("p", "p_rest", "p_worse")]
            for row, p, p_rest, p_worse in zip(rows, *corrected, strict=True):
                conclusion = verdict(row.difference, p, lower=lower)
                slices.append(replace(row, p=p, p_rest=p_rest, p_worse=p_worse, verdict=conclusion))
    return slices


def _parts(
    configurations: Sequence[Measured], metric: str, names: Groups, seed: int
) -> Iterator[tuple[str, list[_Part]]]:
    """Yield each group of a field, the largest first, with the part of every configuration in it."""
    column = np.array(["" if name is None else name for name in names], object)
    has_group = np.array([name is not None for name in names])
    values, counts = np.unique(column[has_group].astype(str), return_counts=True)
    for value in values[np.argsort(-counts, kind="stable")]:
        inside = has_group & (column == value)
        weights = _weights(int(inside.sum()), seed)
        yield str(value), [_part(configuration, metric, inside, weights) for configuration in configurations]


def _weights(examples: int, seed: int) -> list[NDArray[np.uint8]]:
    """Return how often each example is drawn in each resample, `[resamples, examples]`, in chunks of resamples."""
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK_CELLS // max(examples, 1))
    chunks = []
    for start in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - start)
        draws = generator.integers(examples, size=(size, examples)) + np.arange(size)[:, None] * examples
        counts = np.bincount(draws.ravel(), minlength=size * examples)
        chunks.append(counts.reshape(size, examples).astype(np.uint8))
    return chunks


def _part(configuration: Measured, metric: str, mask: NDArray[np.bool_], weights: list[NDArray[np.uint8]]) -> _Part:
    ratios = [by_metric[metric] for by_metric in configuration.ratios]
    inside = tuple(Ratio(ratio.numerator[mask], ratio.denominator[mask]) for ratio in ratios)
    outside = tuple(Ratio(ratio.numerator[~mask], ratio.denominator[~mask]) for ratio in ratios)
    numerators = np.array([ratio.numerator for ratio in inside])  # [runs, examples]
    denominators = np.array([ratio.denominator for ratio in inside])
    chunks = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for counts in weights:
            drawn = counts.astype(np.float64)
            chunks.append((drawn @ numerators.T) / (drawn @ denominators.T))
        values = numerators.sum(axis=1) / denominators.sum(axis=1)
    resamples = np.concatenate(chunks).T
    resamples = np.where(np.isfinite(resamples), resamples, values[:, None])  # no drawn example had a value
    return _Part(inside, outside, Runs(values, resamples, configuration.group.trained))


def _slice(candidate: str, field: str, metric: str, lower: bool, name: str, base: _Part, part: _Part) -> Slice:
    examples = len(base.inside[0].numerator)
    low, high = _interval(part, examples)
    change = part.value - base.value
    (bounds, inner), test = _against(base, part, change, examples)
    worse = test.p_higher if lower else test.p_lower
    return Slice(
        candidate=candidate,
        field=field,
        group=name,
        metric=metric,
        examples=examples,
        baseline_value=finite(base.value),
        value=finite(part.value),
        low=finite(low),
        high=finite(high),
        difference=finite(change),
        difference_low=finite(bounds[0]),
        difference_high=finite(bounds[1]),
        p_rest=finite(_against_rest(part)),
        p=finite(test.p),
        p_worse=finite(worse),
        sure_drop=sure_drop(inner, lower=lower),
        lower_is_better=lower,
    )


def _interval(part: _Part, examples: int) -> Bounds:
    """Return the 95 % interval of a configuration's value in a slice."""
    if part.is_simple:
        correct, count = int(part.inside[0].numerator.sum()), int(part.inside[0].denominator.sum())
        if not count:
            return UNKNOWN
        interval = stats.binomtest(correct, count).proportion_ci(1 - LEVEL, method="wilson")
        return float(interval.low), float(interval.high)
    if len(part.inside) > 1 and examples < MIN_EXAMPLES:
        return UNKNOWN
    if len(part.inside) == 1:
        return percentiles(part.runs.resamples[0]) or UNKNOWN
    return over_seeds_and_examples([part.runs], examples).bounds(part.value)


def _against(base: _Part, part: _Part, change: float, examples: int) -> tuple[tuple[Bounds, Bounds | None], Test]:
    """Return the 95 % and 90 % intervals of the difference from the baseline in this slice, and its test."""
    if len(base.inside) > 1 or len(part.inside) > 1:
        if examples < MIN_EXAMPLES:  # seeds that agree on a single example do not show that their variance is zero
            return (UNKNOWN, None), Test("", math.nan, math.nan, math.nan)
        error = over_seeds_and_examples([base.runs, part.runs], examples)
        return (error.bounds(change), error.bounds(change, ONE_SIDED)), error.test(change)
    before, after = base.inside[0], part.inside[0]
    resamples = part.runs.resamples[0] - base.runs.resamples[0]
    bounds = percentiles(resamples) or UNKNOWN, percentiles(resamples, ONE_SIDED)
    if base.is_simple and part.is_simple and np.array_equal(before.denominator, after.denominator):
        fixed = int((after.numerator > before.numerator).sum())
        broken = int((after.numerator < before.numerator).sum())
        return bounds, mcnemar(fixed, broken)
    changes = after.numerator / max(after.denominator.sum(), 1) - before.numerator / max(before.denominator.sum(), 1)
    return bounds, sign_flip(changes, permutations=PERMUTATIONS)


def _against_rest(part: _Part) -> float:
    """Return the p-value of a slice against all other examples of the same configuration."""
    if part.is_simple:  # Fisher's exact test with mid-p; two-sided as twice the smaller tail
        inside, outside = part.inside[0], part.outside[0]
        correct, count = int(inside.numerator.sum()), int(inside.denominator.sum())
        total, all_correct = count + int(outside.denominator.sum()), correct + int(outside.numerator.sum())
        distribution = stats.hypergeom(total, all_correct, count)
        half = float(distribution.pmf(correct)) / 2
        lower = float(distribution.cdf(correct)) - half
        return min(1.0, 2 * min(lower, 1 - lower))
    ratios = (*part.inside, *part.outside)
    denominator = max(sum(ratio.denominator.sum() for ratio in ratios), 1)
    overall = sum(ratio.numerator.sum() for ratio in ratios) / denominator
    inside_mean, outside_mean = (
        np.mean([ratio.numerator - overall * ratio.denominator for ratio in ratios], axis=0)
        for ratios in (part.inside, part.outside)
    )
    return _student(inside_mean, outside_mean)


def _student(first: Floats, second: Floats) -> float:
    """Return the two-sided p-value of Student's t-test for two independent samples."""
    df = len(first) + len(second) - 2
    if min(len(first), len(second)) == 0 or df < 1:
        return math.nan
    pooled = (first.var() * len(first) + second.var() * len(second)) / df
    stderr = math.sqrt(pooled * (1 / len(first) + 1 / len(second)))
    return float(StandardError(stderr, df).test(float(first.mean() - second.mean())).p)
