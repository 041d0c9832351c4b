"""Test every metric of every candidate against the baseline.

    tables ──▶ resamples shared by all runs ──▶ estimates, differences, verdicts (plain values of `comparison`)

One run against one run: McNemar (mid-p) for metrics of correct and wrong answers, a paired permutation test for every
other metric, and the paired bootstrap interval. The result is about these two models. If a configuration has several
seeds: Student's t over seeds and examples, for test and interval. The result is about the configurations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kamerton.decide.compare.comparison import Configuration, Difference, Estimate, Verdict
from kamerton.decide.compare.configurations import Group
from kamerton.decide.compare.notices import PER_TOKEN, same_tokens
from kamerton.decide.compare.ratios import Ratio, ratios
from kamerton.decide.compare.significance import (
    EXACT_UP_TO,
    LEVEL,
    PERMUTATIONS,
    ROUNDING,
    Runs,
    StandardError,
    Test,
    cohen_g,
    holm,
    mcnemar,
    over_seeds_and_examples,
    permutation_test,
    swaps,
)
from kamerton.direction import PAIR_DETAILS
from kamerton.score.calibration import ECE, cut, difference_bounds, error_bounds, overestimate
from kamerton.score.intervals import RESAMPLES, Values, percentiles, resample, swapped
from kamerton.score.metrics import calibration_counts, compute, lower_is_better
from kamerton.score.preferences import shown_metrics
from kamerton.score.references import incomparable

ONE_SIDED = 1 - 2 * LEVEL  # the interval whose either bound holds with 95 % confidence
MIN_CHANGES = 5  # in one direction; fewer are never significant for McNemar with mid-p
STANDARDISED, COHEN_G = "standardised paired difference", "Cohen's g"


@dataclass(frozen=True, slots=True)
class Measured:
    """A configuration's runs with, per run and metric, the value, the values on resamples and the ratio by example."""

    group: Group
    points: tuple[dict[str, float | None], ...]
    samples: tuple[Values, ...]
    ratios: tuple[dict[str, Ratio], ...]

    @property
    def examples(self) -> int:
        return int(self.group.first.num_rows)

    @property
    def lower(self) -> frozenset[str]:
        """The metrics for which lower is better."""
        return lower_is_better(*(run.table for run in self.group.runs))

    def right(self, metric: str) -> NDArray[np.bool_] | None:
        """Return whether each counted answer of a single run is correct; None for several runs or other metrics."""
        ratio = self.ratios[0].get(metric) if len(self.ratios) == 1 else None
        return ratio.right if ratio is not None else None

    def runs(self, metric: str) -> Runs | None:
        """Return the metric's values and resamples; None if a run lacks it or it is undefined on a resample."""
        lacking = any(metric not in sample for sample in self.samples)
        if lacking or any(point.get(metric) is None for point in self.points):
            return None
        resamples = np.array([sample[metric] for sample in self.samples])
        values = np.array([point[metric] for point in self.points], np.float64)
        return Runs(values, resamples, self.group.trained) if np.isfinite(resamples).all() else None

    def value(self, metric: str) -> float | None:
        """Return the metric's mean over the runs; None if a run lacks it."""
        values = [value for point in self.points if (value := point.get(metric)) is not None]
        return float(np.mean(values)) if len(values) == len(self.points) else None

    def excess(self) -> float:
        """Return an upper bound of the upward bias of the mean calibration error."""
        return float(np.mean([overestimate(calibration_counts(run.table)) for run in self.group.runs]))


def measure(groups: Sequence[Group], resamples: int = RESAMPLES, seed: int = 0) -> list[Measured]:
    """Compute metrics and resamples of each group; all tables contain the same examples in the same order."""
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


def metrics_of(configurations: Sequence[Measured]) -> list[str]:
    """Return every metric to compare for which at least one configuration has a value."""
    names = dict.fromkeys(name for measured in configurations for point in measured.points for name in point)
    shown = shown_metrics(configurations[0].group.first, names)
    return [name for name in shown if any(measured.value(name) is not None for measured in configurations)]


def describe(measured: Measured, metrics: Sequence[str], *, is_baseline: bool) -> Configuration:
    """Return a configuration with its estimates as plain values."""
    runs = measured.group.runs
    return Configuration(
        measured.group.name,
        tuple(str(run.path) for run in runs),
        tuple(run.seed for run in runs),
        {name: _estimate(measured, name) for name in metrics},
        is_baseline,
    )


def _estimate(measured: Measured, metric: str) -> Estimate:
    value, runs = measured.value(metric), measured.runs(metric)
    by_run = tuple(point.get(metric) for point in measured.points)
    if value is None or runs is None:
        return Estimate(value, by_run=by_run)
    sample = runs.resamples[0]
    if len(by_run) == 1:
        bounds = error_bounds(value, sample, measured.excess()) if metric == ECE else percentiles(sample)
        low, high = bounds or (None, None)
        return Estimate(value, low, high, by_run)
    low, high = over_seeds_and_examples([runs], measured.examples).bounds(value)
    low, high = cut((low - measured.excess(), high)) if metric == ECE else (low, high)
    return Estimate(value, low, high, by_run, float(np.std(runs.values, ddof=1)))


def differences(
    configurations: Sequence[Measured], metrics: Sequence[str], permutations: int = PERMUTATIONS, seed: int = 0
) -> list[Difference]:
    """Return the difference of every candidate from the baseline in every metric.

    The first of `configurations` is the baseline. p-values are corrected (Holm) over the candidates of a metric.
    """
    base, *candidates = configurations
    results: list[Difference] = []
    for candidate in candidates:
        permuted: Values = {}
        if len(base.points) == len(candidate.points) == 1:
            masks = swaps(base.examples, permutations, np.random.default_rng(seed))
            permuted = swapped(base.group.first, candidate.group.first, masks)
        results += [_difference(base, candidate, metric, permuted) for metric in metrics]
    for metric in metrics:
        family = [index for index, result in enumerate(results) if result.metric == metric]
        for index, p in zip(family, holm([results[i].p for i in family]), strict=True):
            result = results[index]
            conclusion = verdict(result.difference, p, lower=result.lower_is_better)
            results[index] = replace(result, p_holm=p, verdict=conclusion)
    return results


def verdict(difference: float | None, p: float | None, *, lower: bool) -> Verdict:
    """Return the verdict of a corrected p-value at the 5 % level; `lower` is True if lower values are better."""
    if p is None or difference is None:
        return "not tested"
    if p >= LEVEL or difference == 0:
        return "no difference shown"
    return "better" if (difference > 0) != lower else "worse"


def _difference(base: Measured, candidate: Measured, metric: str, permuted: Values) -> Difference:
    before, after = base.value(metric), candidate.value(metric)
    change = after - before if before is not None and after is not None else None
    lower = metric in (base.lower | candidate.lower) - PAIR_DETAILS
    result = Difference(candidate.group.name, metric, before, after, change, lower_is_better=lower)
    old, new = base.runs(metric), candidate.runs(metric)
    tokenizers_differ = metric in PER_TOKEN and not same_tokens(base.group, candidate.group)
    rewards_differ = incomparable(metric, base.group.first, candidate.group.first)
    if change is None or old is None or new is None or tokenizers_differ or rewards_differ:
        return result
    examples = base.examples
    error = over_seeds_and_examples([old, new], examples)
    if metric == ECE:
        return _calibration(result, base, candidate, error)
    if metric in PAIR_DETAILS:  # neither direction is better by itself
        is_single = len(base.points) == len(candidate.points) == 1
        bounds = percentiles(new.resamples[0] - old.resamples[0]) if is_single else error.bounds(change)
        return replace(result, low=bounds[0], high=bounds[1]) if bounds else result
    deviation = float(np.std(new.resamples.mean(axis=0) - old.resamples.mean(axis=0), ddof=1))
    standardised = change / (deviation * math.sqrt(examples)) if deviation > ROUNDING else None
    answers = [ratios[metric].right for measured in (base, candidate) for ratios in measured.ratios if metric in ratios]
    smallest = max((MIN_CHANGES / len(right) for right in answers if right is not None), default=0.0)
    detectable = max(error.detectable(), smallest) if smallest <= 1 else None  # above 1: too few examples
    result = replace(result, effect=standardised, effect_name=STANDARDISED, detectable=detectable or None)
    if len(base.points) == len(candidate.points) == 1:
        resamples = new.resamples[0] - old.resamples[0]
        low, high = percentiles(resamples) or (None, None)
        certain = sure_drop(percentiles(resamples, ONE_SIDED), lower=lower)
        return _one_against_one(replace(result, low=low, high=high, sure_drop=certain), base, candidate, permuted)
    low, high = error.bounds(change)
    certain = sure_drop(error.bounds(change, ONE_SIDED), lower=lower)
    return _with_test(replace(result, low=low, high=high, sure_drop=certain), error.test(change))


def _calibration(result: Difference, base: Measured, candidate: Measured, error: StandardError) -> Difference:
    """Add the interval, but no test: of two equally well calibrated models, the less certain one has a higher ECE."""
    old, new, change = base.runs(ECE), candidate.runs(ECE), result.difference
    if old is None or new is None or change is None:
        return result
    excess, base_excess = candidate.excess(), base.excess()
    if len(base.points) == len(candidate.points) == 1:
        bounds = difference_bounds(change, new.resamples[0] - old.resamples[0], base_excess, excess)
    else:
        low, high = error.bounds(change)
        bounds = low - excess, high + base_excess
    return replace(result, low=bounds[0], high=bounds[1]) if bounds else result


def sure_drop(bounds: tuple[float, float] | None, *, lower: bool) -> float | None:
    """Return the drop that is certain at 95 % (one-sided), from the two-sided 90 % interval of the difference."""
    if bounds is None:
        return None
    return bounds[0] if lower else -bounds[1]


def _one_against_one(result: Difference, base: Measured, candidate: Measured, permuted: Values) -> Difference:
    """Test two single runs: McNemar for correct and wrong answers, otherwise by permutation."""
    metric = result.metric
    before, after = base.right(metric), candidate.right(metric)
    old, new = base.ratios[0].get(metric), candidate.ratios[0].get(metric)
    # A custom metric may be undefined for different examples in the two tables: then the answers are not paired.
    paired = old is not None and new is not None and np.array_equal(old.denominator, new.denominator)
    if before is not None and after is not None and paired:
        fixed, broken = int((~before & after).sum()), int((before & ~after).sum())
        result = replace(result, fixed=fixed, broken=broken, odds_ratio=fixed / broken if broken else None)
        result = replace(result, effect=cohen_g(fixed, broken), effect_name=COHEN_G)
        return _with_test(result, mcnemar(fixed, broken))
    values = permuted.get(metric)
    if values is None or result.difference is None or not np.isfinite(values).all():
        return result
    return _with_test(result, permutation_test(result.difference, values, exact=base.examples <= EXACT_UP_TO))


def _with_test(result: Difference, test: Test) -> Difference:
    worse = test.p_higher if result.lower_is_better else test.p_lower
    return replace(result, test=test.name, p=test.p, p_worse=worse)
