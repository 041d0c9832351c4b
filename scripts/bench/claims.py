"""How often `kamerton compare` claims a difference where there is none, and how much pairing helps where there is one.

    python scripts/bench/claims.py [--comparisons 2000]

Every comparison draws a test set and the answers of two models (or two settings with three seeds each) whose true
quality is the same. Examples differ in difficulty, which both models share, so their answers are correlated as those of
real fine-tunes are. A claim is a p-value below 0.05; 4 to 6 % of 2,000 null comparisons is what chance allows.
`hierarchical bootstrap` resamples seeds and examples, and claims where the 95 % interval leaves out zero.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import stats

from kamerton.decide.compare.significance import (
    Runs,
    mcnemar,
    over_seeds_and_examples,
    permutation_test,
    sign_flip,
    swaps,
)
from kamerton.score.intervals import swapped
from kamerton.score.table import scores_table

LEVEL = 0.05
Floats = NDArray[np.float64]
PValues = dict[str, float]


def answers(
    generator: np.random.Generator, examples: int, gain: float, seeds: tuple[int, int], spread: float
) -> list[Floats]:
    """Right (1) and wrong (0) answers `[seeds, examples]` of two settings; the second is better by `gain` in logits.

    A run's quality varies from seed to seed with standard deviation `spread`, in logits.
    """
    difficulty = generator.normal(2.2, 2.5, examples)
    quality = [generator.normal(shift, spread, count) for shift, count in zip((0.0, gain), seeds, strict=True)]
    chance = [1 / (1 + np.exp(-(difficulty + each[:, None]))) for each in quality]
    return [(generator.random(chances.shape) < chances).astype(np.float64) for chances in chance]


def losses(generator: np.random.Generator, examples: int) -> list[Floats]:
    """Losses per example of two equally good models, skewed as real ones are."""
    difficulty = generator.normal(-2.0, 1.2, examples)
    return [np.exp(difficulty + generator.normal(0, 0.7, examples)) for _ in range(2)]


def one_run_each(generator: np.random.Generator, examples: int, gain: float = 0.0) -> PValues:
    (before,), (after,) = answers(generator, examples, gain, (1, 1), 0.0)
    fixed, broken = int((after > before).sum()), int((after < before).sum())
    table = [[after.sum(), examples - after.sum()], [before.sum(), examples - before.sum()]]
    return {
        "McNemar, mid-p": mcnemar(fixed, broken).p,
        "McNemar, exact": float(stats.binomtest(fixed, fixed + broken).pvalue) if fixed + broken else 1.0,
        "unpaired (chi-squared)": float(stats.chi2_contingency(table, correction=False).pvalue),
    }


def loss_of_one_run_each(generator: np.random.Generator, examples: int) -> PValues:
    before, after = losses(generator, examples)
    return {
        "permutation": sign_flip(after - before, permutations=999, generator=generator).p,
        "unpaired (Welch)": float(stats.ttest_ind(after, before, equal_var=False).pvalue),
    }


def f1_of_one_run_each(generator: np.random.Generator, examples: int) -> PValues:
    labels = ["a", "b", "c", "d"]
    truth = generator.choice(4, examples, p=[0.4, 0.3, 0.2, 0.1])
    (before,), (after,) = answers(generator, examples, 0.0, (1, 1), 0.0)
    tables = [
        _table(truth, np.where(right == 1, truth, generator.integers(4, size=examples)), labels)
        for right in (before, after)
    ]
    whole = [np.zeros((1, examples), np.uint8)]
    observed = float(swapped(*tables, whole)["f1"][0])
    values = swapped(*tables, swaps(examples, 499, generator))["f1"]
    return {"permutation of macro F1": permutation_test(observed, values, exact=False).p}


def _table(truth: NDArray[np.int64], guess: NDArray[np.int64], labels: list[str]) -> pa.Table:
    same = {"prompt": "", "metadata": "{}", "nll": 1.0, "target_tokens": 1, "correct_tokens": 1}
    rows = [
        same | {"example_id": str(i), "target": labels[t], "label": labels[t], "predicted_label": labels[g]}
        for i, (t, g) in enumerate(zip(truth, guess, strict=True))
    ]
    return scores_table(rows, labels)


def seeds_each(weights: Floats, seeds: tuple[int, int], spread: float) -> Callable[..., PValues]:
    """Comparisons of settings with several seeds; `weights` are resamples of the examples, `[resamples, examples]`."""

    def compare(generator: np.random.Generator, examples: int, gain: float = 0.0) -> PValues:
        runs = answers(generator, examples, gain, seeds, spread)
        sides = [Runs(right.mean(axis=1), right @ weights.T) for right in runs]
        change = float(sides[1].values.mean() - sides[0].values.mean())
        drawn = [
            side.resamples[
                generator.integers(len(side.values), size=(len(weights), len(side.values))).T, np.arange(len(weights))
            ]
            for side in sides
        ]
        bootstrap = drawn[1].mean(axis=0) - drawn[0].mean(axis=0)
        low, high = np.quantile(bootstrap, [LEVEL / 2, 1 - LEVEL / 2])
        first = [right[0] for right in runs]
        fixed, broken = int((first[1] > first[0]).sum()), int((first[1] < first[0]).sum())
        return {
            "t over seeds and examples": over_seeds_and_examples(sides, examples).test(change).p,
            "hierarchical bootstrap": 0.0 if low > 0 or high < 0 else 1.0,
            "McNemar on the first seeds": mcnemar(fixed, broken).p,
        }

    return compare


def claims(compare: Callable[..., PValues], comparisons: int, *arguments: float) -> dict[str, float]:
    """The share of comparisons in which each test claims a difference."""
    p_values = [compare(np.random.default_rng([7, i]), *arguments) for i in range(comparisons)]
    return {name: float(np.mean([values[name] < LEVEL for values in p_values])) for name in p_values[0]}


def resampling(examples: int, resamples: int = 500) -> Floats:
    draws = np.random.default_rng(3).multinomial(examples, np.full(examples, 1 / examples), size=resamples)
    return draws / examples


def table(comparisons: int) -> Iterator[tuple[str, int, str, float]]:
    """(what is compared, examples, test, share of claims)."""
    for examples in (200, 1000):
        yield from _rows("accuracy, one run each", examples, claims(one_run_each, comparisons, examples))
        yield from _rows("loss, one run each", examples, claims(loss_of_one_run_each, comparisons, examples))
    yield from _rows("macro F1, one run each", 200, claims(f1_of_one_run_each, comparisons, 200))
    for seeds, spread in (((3, 3), 0.0), ((3, 3), 0.15), ((3, 3), 0.5), ((5, 5), 0.15), ((1, 3), 0.15)):
        compare = seeds_each(resampling(800), seeds, spread)
        what = f"accuracy, {seeds[0]} and {seeds[1]} seeds, spread {spread} in logits"
        yield from _rows(what, 800, claims(compare, comparisons, 800))
    for gain in (0.2, 0.4):
        yield from _rows(f"power: better by {gain} in logits", 800, claims(one_run_each, comparisons, 800, gain))
    compare = seeds_each(resampling(800), (3, 3), 0.15)
    yield from _rows("power: 3 and 3 seeds, better by 0.4", 800, claims(compare, comparisons, 800, 0.4))


def _rows(what: str, examples: int, shares: dict[str, float]) -> Iterable[tuple[str, int, str, float]]:
    return [(what, examples, name, share) for name, share in shares.items()]


def facts() -> str:
    """How the simulated answers are correlated, and what the gains and spreads mean in accuracy."""
    generator = np.random.default_rng(0)
    (first,), (second,) = answers(generator, 200_000, 0.0, (1, 1), 0.0)
    gains = [answers(generator, 200_000, gain, (1, 1), 0.0)[1].mean() - first.mean() for gain in (0.2, 0.4)]
    spreads = [answers(generator, 20_000, 0.0, (200, 1), spread)[0].mean(axis=1).std() for spread in (0.0, 0.15, 0.5)]
    gain_text = ", ".join(f"{gain:+.3f}" for gain in gains)
    seeds = ", ".join(f"{spread:.3f}" for spread in spreads)
    correlation = np.corrcoef(first, second)[0, 1]
    return f"accuracy {first.mean():.3f}, correlation {correlation:.2f}; gains {gain_text}; spread over seeds {seeds}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=2000)
    comparisons = parser.parse_args().comparisons
    print(facts(), flush=True)
    print("| comparison | examples | test | claims |\n| --- | --- | --- | --- |")
    start = time.perf_counter()
    for what, examples, name, share in table(comparisons):
        print(f"| {what} | {examples} | {name} | {share:.2%} |", flush=True)
    print(f"\n{comparisons} comparisons a row, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
