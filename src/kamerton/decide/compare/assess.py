"""From sides to differences: every metric of every candidate against the baseline, with its test.

    tables ──▶ resamples shared by all runs ──▶ estimates, differences, verdicts (plain values of `compare`)

One run against one run: McNemar (mid-p) for metrics of right and wrong answers, a paired permutation test for every
other metric, and the paired bootstrap interval; that speaks of these two models. As soon as a side has several seeds:
Student's t over seeds and examples, for test and interval; that speaks of the configurations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from kamerton.decide.compare.comparison import Difference, Estimate, Side, Verdict
from kamerton.decide.compare.notices import PER_TOKEN, same_tokens
from kamerton.decide.compare.ratios import Ratio, ratios
from kamerton.decide.compare.sides import Group
from kamerton.decide.compare.significance import (
    EXACT_UP_TO,
    LEVEL,
    PERMUTATIONS,
    ROUNDING,
    Runs,
    Spread,
    Test,
    cohen_g,
    holm,
    mcnemar,
    over_seeds_and_examples,
    permutation_test,
    swaps,
)
from kamerton.score.calibration import ECE, cut, difference_bounds, error_bounds, overestimate
from kamerton.score.intervals import RESAMPLES, Values, percentiles, resample, swapped
from kamerton.score.metrics import calibration_counts, compute, lower_is_better

Flips = Iterable[NDArray[np.uint8]]
ONE_SIDED = 1 - 2 * LEVEL  # the interval whose either bound holds with 95 % confidence
FEWEST_CHANGES = 5  # in one direction: what McNemar with mid-p takes for more than chance
STANDARDISED, COHEN_G = "standardised paired difference", "Cohen's g"


@dataclass(frozen=True, slots=True)
class Measured:
    """A group; by metric each run's value, its values on the shared resamples, and what each example adds to it."""

    group: Group
    points: tuple[dict[str, float | None], ...]
    samples: tuple[Values, ...]
    shares: tuple[dict[str, Ratio], ...]

    @property
    def examples(self) -> int:
        return int(self.group.first.num_rows)

    @property
    def lower(self) -> frozenset[str]:
        """The metrics of which less is better."""
        return lower_is_better(*(run.table for run in self.group.runs))

    def right(self, metric: str) -> NDArray[np.bool_] | None:
        """Of a single run whose answers are right or wrong in this metric: which of those that count are right."""
        found = self.shares[0].get(metric) if len(self.shares) == 1 else None
        return found.right if found is not None else None

    def runs(self, metric: str) -> Runs | None:
        """The metric's values and resamples; None where a run lacks it, or it is undefined on a resample."""
        if any(point.get(metric) is None for point in self.points) or any(metric not in one for one in self.samples):
            return None
        resamples = np.array([one[metric] for one in self.samples])
        values = np.array([point[metric] for point in self.points], np.float64)
        return Runs(values, resamples, self.group.trained) if np.isfinite(resamples).all() else None

    def value(self, metric: str) -> float | None:
        """The mean over the runs."""
        values = [value for point in self.points if (value := point.get(metric)) is not None]
        return float(np.mean(values)) if len(values) == len(self.points) else None

    def excess(self) -> float:
        """By how much the mean calibration error is too high at most."""
        return float(np.mean([overestimate(calibration_counts(run.table)) for run in self.group.runs]))


def measure(groups: Sequence[Group], resamples: int = RESAMPLES, seed: int = 0) -> list[Measured]:
    """Each group measured; the tables hold the same examples in the same order."""
    tables = [run.table for group in groups for run in group.runs]
    samples = iter(resample(tables, resamples, seed))
    return [
        Measured(
            group,
            tuple(compute(run.table) for run in group.runs),
            tuple(next(samples) for _ in group.runs),
            tuple(ratios(run.table) for run in group.runs),
        )
        for group in groups
    ]


def metrics_of(sides: Sequence[Measured]) -> list[str]:
    """Every metric that some side has a value of."""
    names = dict.fromkeys(name for side in sides for point in side.points for name in point)
    return [name for name in names if any(side.value(name) is not None for side in sides)]


def describe(side: Measured, metrics: Sequence[str], *, is_baseline: bool) -> Side:
    """A side as plain values."""
    runs = side.group.runs
    return Side(
        side.group.name,
        tuple(str(run.path) for run in runs),
        tuple(run.seed for run in runs),
        {name: _estimate(side, name) for name in metrics},
        is_baseline,
    )


def _estimate(side: Measured, metric: str) -> Estimate:
    value, runs = side.value(metric), side.runs(metric)
    by_run = tuple(point.get(metric) for point in side.points)
    if value is None or runs is None:
        return Estimate(value, by_run=by_run)
    sample = runs.resamples[0]
    if len(by_run) == 1:
        bounds = error_bounds(value, sample, side.excess()) if metric == ECE else percentiles(sample)
        low, high = bounds or (None, None)
        return Estimate(value, low, high, by_run)
    low, high = over_seeds_and_examples([runs], side.examples).bounds(value)
    low, high = cut((low - side.excess(), high)) if metric == ECE else (low, high)
    return Estimate(value, low, high, by_run, float(np.std(runs.values, ddof=1)))


def differences(
    sides: Sequence[Measured], metrics: Sequence[str], permutations: int = PERMUTATIONS, seed: int = 0
) -> list[Difference]:
    """Every candidate (all sides but the first) against the first in every metric; p-values corrected per metric."""
    base = sides[0]
    found = [
        one
        for side in sides[1:]
        for one in _against(base, side, metrics, swaps(base.examples, permutations, np.random.default_rng(seed)))
    ]
    by_metric = sorted(range(len(found)), key=lambda index: found[index].metric)
    for _, same in groupby(by_metric, key=lambda index: found[index].metric):
        family = list(same)
        for index, p in zip(family, holm([found[i].p for i in family]), strict=True):
            found[index] = replace(
                found[index], p_holm=p, verdict=verdict(found[index].difference, p, lower=found[index].lower_is_better)
            )
    return found


def verdict(difference: float | None, p: float | None, *, lower: bool) -> Verdict:
    """better or worse where the corrected p-value is below 5 %; `lower` where less is better."""
    if p is None or difference is None:
        return "not tested"
    if p >= LEVEL or difference == 0:
        return "no difference shown"
    return "better" if (difference > 0) != lower else "worse"


def _against(base: Measured, side: Measured, metrics: Sequence[str], flips: Flips) -> list[Difference]:
    single = len(base.points) == len(side.points) == 1
    permuted = swapped(base.group.first, side.group.first, flips) if single else {}
    return [_difference(base, side, metric, permuted) for metric in metrics]


def _difference(base: Measured, side: Measured, metric: str, permuted: Values) -> Difference:
    before, after = base.value(metric), side.value(metric)
    change = after - before if before is not None and after is not None else None
    lower = metric in base.lower | side.lower
    plain = Difference(side.group.name, metric, before, after, change, lower_is_better=lower)
    old, new = base.runs(metric), side.runs(metric)
    unlike = metric in PER_TOKEN and not same_tokens(base.group, side.group)
    if change is None or old is None or new is None or unlike:
        return plain
    examples = base.examples
    spread = over_seeds_and_examples([old, new], examples)
    if metric == ECE:
        return _calibration(plain, base, side, spread)
    error = float(np.std(new.resamples.mean(axis=0) - old.resamples.mean(axis=0), ddof=1))
    standardised = change / (error * math.sqrt(examples)) if error > ROUNDING else None
    floor = _least(base, side, metric)
    least = max(spread.detectable(), floor) if floor <= 1 else 0.0  # above: nothing could be shown
    plain = replace(plain, effect=standardised, effect_name=STANDARDISED, detectable=least or None)
    if len(base.points) == len(side.points) == 1:
        resamples = new.resamples[0] - old.resamples[0]
        low, high = percentiles(resamples) or (None, None)
        sure = sure_drop(percentiles(resamples, ONE_SIDED), lower=lower)
        return _one_against_one(replace(plain, low=low, high=high, sure_drop=sure), base, side, permuted)
    low, high = spread.bounds(change)
    sure = sure_drop(spread.bounds(change, ONE_SIDED), lower=lower)
    return _tested(replace(plain, low=low, high=high, sure_drop=sure), spread.test(change))


def _calibration(plain: Difference, base: Measured, side: Measured, spread: Spread) -> Difference:
    """The interval, and no test: of two models that are as well calibrated, the less certain one looks worse."""
    old, new, change = base.runs(ECE), side.runs(ECE), plain.difference
    if old is None or new is None or change is None:
        return plain
    excess, base_excess = side.excess(), base.excess()
    if len(base.points) == len(side.points) == 1:
        bounds = difference_bounds(change, new.resamples[0] - old.resamples[0], base_excess, excess)
    else:
        low, high = spread.bounds(change)
        bounds = low - excess, high + base_excess
    return replace(plain, low=bounds[0], high=bounds[1]) if bounds else plain


def sure_drop(bounds: tuple[float, float] | None, *, lower: bool) -> float | None:
    """By how much the candidate is worse at least, from the two-sided 90 % interval of the difference."""
    if bounds is None:
        return None
    return bounds[0] if lower else -bounds[1]


def _least(base: Measured, side: Measured, metric: str) -> float:
    """What no test can go below: of right and wrong answers, so few changes that they may be chance."""
    both = [each for one in (base, side) for each in one.shares if metric in each]
    counted = [each[metric].right for each in both]
    return max((FEWEST_CHANGES / len(each) for each in counted if each is not None), default=0.0)


def _one_against_one(plain: Difference, base: Measured, side: Measured, permuted: Values) -> Difference:
    """The test of two single runs: McNemar's where answers are right or wrong, else by permutation."""
    before, after = base.right(plain.metric), side.right(plain.metric)
    if before is not None and after is not None and _same_count(base, side, plain.metric):
        fixed, broken = int((~before & after).sum()), int((before & ~after).sum())
        plain = replace(plain, fixed=fixed, broken=broken, odds_ratio=fixed / broken if broken else None)
        plain = replace(plain, effect=cohen_g(fixed, broken), effect_name=COHEN_G)
        return _tested(plain, mcnemar(fixed, broken))
    values = permuted.get(plain.metric)
    if values is None or plain.difference is None or not np.isfinite(values).all():
        return plain
    return _tested(plain, permutation_test(plain.difference, values, exact=base.examples <= EXACT_UP_TO))


def _same_count(base: Measured, side: Measured, metric: str) -> bool:
    """Whether the same examples have a value on both sides: a metric of one's own may leave some out."""
    return np.array_equal(base.shares[0][metric].bottom, side.shares[0][metric].bottom)


def _tested(plain: Difference, test: Test) -> Difference:
    worse = test.p_higher if plain.lower_is_better else test.p_lower
    return replace(plain, test=test.name, p=test.p, p_worse=worse)
