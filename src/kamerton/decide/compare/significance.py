"""Whether a difference is chance: tests, effect sizes, corrections, and what a test set could show at all.

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
ROUNDING = 1e-24  # a variance below is none

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Test:
    """A test's name and its p-values: two-sided, and one-sided for "the candidate's value is lower" and "higher"."""

    name: str
    p: float
    p_lower: float
    p_higher: float


def mcnemar(fixed: int, broken: int) -> Test:
    """McNemar's test with mid-p: `fixed` examples only the candidate has right, `broken` only the baseline."""
    changed = fixed + broken
    half = stats.binom.pmf(min(fixed, broken), changed, 0.5) / 2
    lower, higher = (float(stats.binom.cdf(count, changed, 0.5) - half) for count in (fixed, broken))
    return Test("McNemar, mid-p", min(1.0, 2 * min(lower, higher)), lower, higher)


def sign_flip(
    differences: Floats, *, permutations: int = PERMUTATIONS, generator: np.random.Generator | None = None
) -> Test:
    """Paired permutation test of a mean: each example's difference keeps or changes its sign, `[examples]`.

    Every way is tried where there are at most 12 examples that differ, else `permutations` random ones.
    """
    moved = differences[differences != 0]
    flips = swaps(len(moved), permutations, generator or np.random.default_rng(0))
    sums = np.concatenate([(1 - 2.0 * chunk) @ moved for chunk in flips])
    return permutation_test(float(moved.sum()), sums, exact=len(moved) <= EXACT_UP_TO)


def swaps(examples: int, permutations: int, generator: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """Which examples change sides, `[permutations, examples]` in chunks of 0 and 1: all ways, or random ones."""
    if examples <= EXACT_UP_TO:
        every = np.arange(2**examples)[:, None] >> np.arange(examples)
        yield (every & 1).astype(np.uint8)
        return
    chunk = max(1, 4_000_000 // examples)
    for start in range(0, permutations, chunk):
        size = min(chunk, permutations - start)
        yield generator.integers(2, size=(size, examples), dtype=np.uint8)


def permutation_test(observed: float, values: Floats, *, exact: bool) -> Test:
    """The test from the values under permutation; random ones count the observed value as one more of them.

    Source: Phipson and Smyth, Permutation p-values should never be zero, 2010.
    """
    name = "permutation, exact" if exact else "permutation"
    slack = 1e-12 * max(1.0, float(np.abs(values).max(initial=0.0)))  # equal values may differ in their last bits
    more, total = (0, len(values)) if exact else (1, len(values) + 1)
    shares = [
        (int(np.count_nonzero(hit)) + more) / total
        for hit in (abs(values) >= abs(observed) - slack, values <= observed + slack, values >= observed - slack)
    ]
    return Test(name, *shares)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction over all tests of one family; None stays None and does not count."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    worst = 0.0
    for rank, (p, index) in enumerate(known):
        worst = max(worst, min(1.0, p * (len(known) - rank)))
        corrected[index] = worst
    return corrected


def cohen_g(fixed: int, broken: int) -> float | None:
    """Cohen's g: the share of changed answers that were fixed, minus one half; None where none changed."""
    return fixed / (fixed + broken) - 0.5 if fixed + broken else None


@dataclass(frozen=True, slots=True)
class Spread:
    """How sure a mean or a difference is: its standard error and degrees of freedom."""

    error: float
    freedom: float

    def test(self, value: float) -> Test:
        """Whether `value` is zero, by Student's t."""
        if self.error == 0:
            same = abs(value) < math.sqrt(ROUNDING)
            one_sided = (0.5, 0.5) if same else (float(value > 0), float(value < 0))
            return Test("t over seeds and examples", float(same), *one_sided)
        t = value / self.error
        lower = float(stats.t.cdf(t, self.freedom))
        higher = float(stats.t.sf(t, self.freedom))
        return Test("t over seeds and examples", min(1.0, 2 * min(lower, higher)), lower, higher)

    def bounds(self, value: float, level: float = 1 - LEVEL) -> tuple[float, float]:
        """The interval around `value`."""
        reach = float(stats.t.ppf((1 + level) / 2, self.freedom)) * self.error
        return value - reach, value + reach

    def detectable(self) -> float:
        """The smallest difference that is shown with 80 % power at the 5 % level."""
        quantile: Callable[..., float] = stats.t.ppf
        reach = quantile(1 - LEVEL / 2, self.freedom) + quantile(POWER, self.freedom)
        return float(reach) * self.error


@dataclass(frozen=True, slots=True)
class Runs:
    """One metric of the runs of one side: values `[runs]`, and resamples of the examples `[runs, resamples]`.

    All runs, of all sides, share the resamples. `trained` is False for a model without a seed, such as a base model.
    """

    values: Floats
    resamples: Floats
    trained: bool = True


def over_seeds_and_examples(sides: Sequence[Runs], examples: int) -> Spread:
    """Standard error of a side's mean over its runs (one side), or of the difference of two, over seeds and examples.

    Two random factors, crossed: every run answers every example. The variance is a sum of two parts. Over seeds: that
    of the runs' values, taken to be the same on both sides, so that a trained side with a single seed borrows it. Over
    examples: that of the mean over runs when examples are resampled, less what runs of one side answer differently by
    chance, which the first part holds already. Degrees of freedom after Satterthwaite. Where no example is special to a
    side this is Student's t on the runs' values; where seeds do not matter, the paired bootstrap's standard error. With
    no variance over seeds to be had, only the examples count. Where a single seed borrows, runs that agree more closely
    than their own chance allows do so by luck: for the degrees of freedom that chance counts, else a few seeds of one
    side would seem sure of both.

    Resampling the seeds as well (the plain hierarchical bootstrap) finds among 3 seeds two thirds of their variance,
    and has a normal tail: it claims too much where seeds matter (`scripts/bench/claims.py` measures both).
    """
    weights = [-1.0, 1.0] if len(sides) == 2 else [1.0]
    mean = sum(weight * side.resamples.mean(axis=0) for weight, side in zip(weights, sides, strict=True))
    by_examples = float(np.var(mean, ddof=1))
    several = [side for side in sides if side.trained and len(side.values) > 1]
    if not several:
        return Spread(math.sqrt(by_examples), math.inf)
    freedom = sum(len(side.values) - 1 for side in several)
    share = sum(1 / len(side.values) for side in sides if side.trained)
    by_seeds = share * sum(float(np.sum((side.values - side.values.mean()) ** 2)) for side in several) / freedom
    residuals = [side.resamples - side.resamples.mean(axis=0) for side in several]
    chance = share * sum(float(np.var(one, axis=1, ddof=1).sum()) for one in residuals) / freedom
    special = max(by_examples - chance, 0.0)
    borrowed = any(side.trained and len(side.values) == 1 for side in sides)
    variance, expected = special + by_seeds, max(by_seeds, chance) if borrowed else by_seeds
    spent = special**2 / max(examples - 1, 1) + expected**2 / freedom
    if variance < ROUNDING:
        return Spread(0.0, freedom)
    return Spread(math.sqrt(variance), (special + expected) ** 2 / spent if spent else math.inf)


FEW_EXAMPLES = 30
