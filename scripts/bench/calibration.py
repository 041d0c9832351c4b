"""How often intervals of the calibration error cover the true one, for simulated models whose error is known.

    python scripts/bench/calibration.py [--draws 300]

A model's confidence is drawn from a beta distribution, and it is right with that probability less `shift`. `Kamerton`
is the interval of `kamerton.score.calibration`; the others are the bootstrap's usual ones from the same resamples
(Efron and Tibshirani, 1993: percentile, bias-corrected; Davison and Hinkley, 1997: basic).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from kamerton.score.calibration import difference_bounds, error_bounds, overestimate
from kamerton.score.metrics import ECE_BINS, calibration_error

Floats = NDArray[np.float64]
Bounds = tuple[float, float]
MODELS = {"sure": (8.0, 1.0), "unsure": (3.0, 2.0)}
RESAMPLES = 300
QUANTILES = [0.025, 0.975]


def counts(
    generator: np.random.Generator, model: str, shift: float, examples: int, *, expected: bool = False
) -> Floats:
    """As `metrics.calibration_counts` has them; `expected` takes the chance of being right for the outcome."""
    confidence = generator.beta(*MODELS[model], examples)
    chance = np.clip(confidence - shift, 0, 1)
    right = chance if expected else generator.random(examples) < chance
    values = np.zeros((examples, ECE_BINS + 1))
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    values[np.arange(examples), bins] = confidence - right
    values[:, -1] = 1
    return values


def truth(model: str, shift: float) -> float:
    sums = counts(np.random.default_rng(1), model, shift, 1_000_000, expected=True).sum(axis=0)
    return float(calibration_error(sums))


def usual(value: float, sample: Floats) -> dict[str, Bounds]:
    """The bootstrap's usual intervals."""
    low, high = np.quantile(sample, QUANTILES)
    below = np.clip(np.mean(sample < value), 0.5 / len(sample), 1 - 0.5 / len(sample))
    shifted = stats.norm.cdf(2 * stats.norm.ppf(below) + stats.norm.ppf(QUANTILES))
    corrected = np.quantile(sample, shifted)
    return {
        "percentile": (low, high),
        "basic": (2 * value - high, 2 * value - low),
        "bias-corrected": (corrected[0], corrected[1]),
    }


def coverage(draws: int, examples: int, models: list[tuple[str, float]]) -> dict[str, float]:
    """Of one model's error, or of the difference of two, how often each interval holds the true value."""
    generator = np.random.default_rng([7, examples])
    weights = generator.multinomial(examples, np.full(examples, 1 / examples), size=RESAMPLES).astype(float)
    true = [truth(*model) for model in models]
    true_value = true[-1] - (true[0] if len(true) == 2 else 0.0)
    hits: dict[str, int] = {}
    for _ in range(draws):
        parts = [counts(generator, *model, examples) for model in models]
        values = [float(calibration_error(part.sum(axis=0))) for part in parts]
        samples = [calibration_error(weights @ part) for part in parts]
        excess = [overestimate(part) for part in parts]
        if len(models) == 2:
            value, sample = values[1] - values[0], samples[1] - samples[0]
            ours = difference_bounds(value, sample, *excess)
        else:
            value, sample = values[0], samples[0]
            ours = error_bounds(value, sample, excess[0])
        for name, bounds in {"Kamerton": ours, **usual(value, sample)}.items():
            hits[name] = hits.get(name, 0) + (bounds is not None and bounds[0] <= true_value <= bounds[1])
    return {name: count / draws for name, count in hits.items()}


def cases() -> Iterator[tuple[int, list[tuple[str, float]]]]:
    for examples in (100, 800):
        yield from ((examples, [(model, shift)]) for model in MODELS for shift in (0.0, 0.03, 0.1))
        for pair in ((("sure", 0.0), ("unsure", 0.0)), (("unsure", 0.1), ("sure", 0.0))):
            yield examples, list(pair)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=300)
    draws = parser.parse_args().draws
    print(
        "| examples | model | Kamerton | percentile | basic | bias-corrected |\n| --- | --- | --- | --- | --- | --- |"
    )
    for examples, models in cases():
        what = " against ".join(f"{model}, {shift:g} too sure" for model, shift in reversed(models))
        shares = coverage(draws, examples, models)
        print(f"| {examples} | {what} | {' | '.join(f'{share:.0%}' for share in shares.values())} |", flush=True)


if __name__ == "__main__":
    main()
