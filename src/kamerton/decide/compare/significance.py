"""Significance of a difference: tests, effect sizes, multiple-testing correction and statistical power.

Plain numbers in, plain numbers out. Sources: McNemar, Note on the sampling error of the difference between correlated
proportions, 1947; the mid-p variant after Fagerland, Lydersen and Laake, The McNemar test for binary matched-pairs
data, 2013 (the exact test is conservative: it claims a difference less often than its level says; mid-p keeps close to
it and rarely exceeds it); Holm, A simple sequentially rejective multiple test procedure, 1979; Cohen, Statistical
Power Analysis, 1988 (g); Satterthwaite, An approximate distribution of estimates of variance components, 1946, and
Clark, The language-as-fixed-effect fallacy, 1973, for two random factors (here seeds and examples) in one comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

LEVEL = 0.05
POWER = 0.80
PERMUTATIONS = 9_999
EXACT_UP_TO = 12  # examples: 4,096 ways to swap them
ROUNDING = 1e-24  # smaller variances are rounding errors
FEW_EXAMPLES = 30

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Test:
    """A test's name and its p-values: two-sided, and one-sided for "the candidate's value is lower" and "higher"."""

    name: str
    p: float
    p_lower: float
    p_higher: float


def mcnemar(fixed: int, broken: int) -> Test:
    """Return McNemar's test with mid-p.

    `fixed` is the number of examples that only the candidate answers correctly, `broken` those that only the baseline
    does.
    """
    changed = fixed + broken
    half = stats.binom.pmf(min(fixed, broken), changed, 0.5) / 2
    lower, higher = (float(stats.binom.cdf(count, changed, 0.5) - half) for count in (fixed, broken))
    return Test("McNemar, mid-p", min(1.0, 2 * min(lower, higher)), lower, higher)


def sign_flip(
    differences: Floats, *, permutations: int = PERMUTATIONS, generator: np.random.Generator | None = None
) -> Test:
    """Return a paired permutation test of the mean of `differences` (`[examples]`), by flipping their signs.

    All sign patterns are used if at most 12 examples differ, otherwise `permutations` random ones.
    """
    nonzero = differences[differences != 0]
    flips = swaps(len(nonzero), permutations, generator or np.random.default_rng(0))
    sums = np.concatenate([(1 - 2.0 * chunk) @ nonzero for chunk in flips])
    return permutation_test(float(nonzero.sum()), sums, exact=len(nonzero) <= EXACT_UP_TO)


def swaps(examples: int, permutations: int, generator: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """Yield chunks of 0/1 masks `[permutations, examples]` of the examples to swap: all masks, or random ones."""
    if examples <= EXACT_UP_TO:
        patterns = np.arange(2**examples)[:, None] >> np.arange(examples)
        yield (patterns & 1).astype(np.uint8)
        return
    chunk = max(1, 4_000_000 // examples)
    for start in range(0, permutations, chunk):
        size = min(chunk, permutations - start)
        yield generator.integers(2, size=(size, examples), dtype=np.uint8)


def permutation_test(observed: float, values: Floats, *, exact: bool) -> Test:
    """Return the test of `observed` from the statistic's `values` under permutation, `[permutations]`.

    With random permutations (`exact` is False) the observed value counts as one more of them.
    Source: Phipson and Smyth, Permutation p-values should never be zero, 2010.
    """
    name = "permutation, exact" if exact else "permutation"
    slack = 1e-12 * max(1.0, float(np.abs(values).max(initial=0.0)))  # equal values may differ in their last bits
    extra, total = (0, len(values)) if exact else (1, len(values) + 1)
    extreme = (abs(values) >= abs(observed) - slack, values <= observed + slack, values >= observed - slack)
    return Test(name, *((int(np.count_nonzero(mask)) + extra) / total for mask in extreme))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return Holm's corrected p-values of one family of tests; None stays None and is not counted."""
    ordered = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    running_max = 0.0
    for rank, (p, index) in enumerate(ordered):
        running_max = max(running_max, min(1.0, p * (len(ordered) - rank)))
        corrected[index] = running_max
    return corrected


def cohen_g(fixed: int, broken: int) -> float | None:
    """Return Cohen's g: the share of changed answers that were fixed, minus one half; None if none changed."""
    return fixed / (fixed + broken) - 0.5 if fixed + broken else None


@dataclass(frozen=True, slots=True)
class StandardError:
    """Standard error of a mean or a difference, with its degrees of freedom."""

    stderr: float
    df: float

    def test(self, value: float) -> Test:
        """Return Student's t-test of `value` against zero."""
        if self.stderr == 0:
            is_zero = abs(value) < math.sqrt(ROUNDING)
            one_sided = (0.5, 0.5) if is_zero else (float(value > 0), float(value < 0))
            return Test("t over seeds and examples", float(is_zero), *one_sided)
        t = value / self.stderr
        lower = float(stats.t.cdf(t, self.df))
        higher = float(stats.t.sf(t, self.df))
        return Test("t over seeds and examples", min(1.0, 2 * min(lower, higher)), lower, higher)

    def bounds(self, value: float, level: float = 1 - LEVEL) -> tuple[float, float]:
        """Return the confidence interval of `level` around `value`."""
        reach = float(stats.t.ppf((1 + level) / 2, self.df)) * self.stderr
        return value - reach, value + reach

    def detectable(self) -> float:
        """Return the smallest difference that is detected with 80 % power at the 5 % level."""
        quantile: Callable[..., float] = stats.t.ppf
        reach = quantile(1 - LEVEL / 2, self.df) + quantile(POWER, self.df)
        return float(reach) * self.stderr


@dataclass(frozen=True, slots=True)
class Runs:
    """One metric of the runs of one configuration: values `[runs]`, and values on resampled examples
    `[runs, resamples]`.

    All runs of all configurations share the resamples. `trained` is False for a model without a seed, e.g. a base
    model.
    """

    values: Floats
    resamples: Floats
    trained: bool = True


def over_seeds_and_examples(configurations: Sequence[Runs], examples: int) -> StandardError:
    """Return the standard error over seeds and examples of one configuration's mean, or of the difference of two.

    Two crossed random factors: every run answers every example. The variance is the sum of two components.

    - Seeds: the variance of the runs' values, assumed equal for both configurations, so that a trained configuration
      with a single seed borrows it.
    - Examples: the variance of the mean over runs when examples are resampled, minus the part due to runs of one
      configuration answering differently by chance, which the first component contains already, unless it is zero:
      runs that give different answers may have equal values by luck.

    Degrees of freedom after Satterthwaite. If no example depends on the configuration, this is Student's t on the runs'
    values; if seeds do not matter, the paired bootstrap's standard error. Without an estimate of the variance over
    seeds only the examples count. If a single seed borrows it, runs that agree more closely than chance allows do so by
    luck, so the degrees of freedom use the chance variance; otherwise a few seeds of one configuration would make both
    seem certain.

    Resampling the seeds as well (the plain hierarchical bootstrap) recovers only two thirds of the variance among 3
    seeds and has a normal tail, so it claims too many differences if seeds matter (`scripts/bench/claims.py` measures
    both).
    """
    weights = [-1.0, 1.0] if len(configurations) == 2 else [1.0]
    mean = sum(weight * runs.resamples.mean(axis=0) for weight, runs in zip(weights, configurations, strict=True))
    by_examples = float(np.var(mean, ddof=1))
    several = [runs for runs in configurations if runs.trained and len(runs.values) > 1]
    if not several:
        return StandardError(math.sqrt(by_examples), math.inf)
    df = sum(len(runs.values) - 1 for runs in several)
    share = sum(1 / len(runs.values) for runs in configurations if runs.trained)
    by_seeds = share * sum(float(np.sum((runs.values - runs.values.mean()) ** 2)) for runs in several) / df
    residuals = [runs.resamples - runs.resamples.mean(axis=0) for runs in several]
    chance = share * sum(float(np.var(residual, axis=1, ddof=1).sum()) for residual in residuals) / df
    are_equal = by_seeds < ROUNDING
    borrowed = any(runs.trained and len(runs.values) == 1 for runs in configurations)
    special = by_examples if are_equal and not borrowed else max(by_examples - chance, 0.0)
    variance = by_examples if are_equal else special + by_seeds
    expected = max(by_seeds, chance) if borrowed else by_seeds
    squares_per_df = special**2 / max(examples - 1, 1) + expected**2 / df
    if variance < ROUNDING:
        return StandardError(0.0, df)
    satterthwaite = (special + expected) ** 2 / squares_per_df if squares_per_df else math.inf
    return StandardError(math.sqrt(variance), satterthwaite)
