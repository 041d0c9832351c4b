"""Cross-validation in numbers: the mean over folds, their spread, and an interval that knows that folds overlap."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np

METHOD = (
    "The interval of the mean is Student's t with the variance of Nadeau and Bengio (Inference for the generalization "
    "error, Machine Learning 52, 2003): s² · (1/k + test/train) instead of s²/k, because the models of two folds share "
    "most of their training examples and are not independent. It was derived for random resampling and is an "
    "approximation for folds, whose variance no estimate is unbiased for (Bengio and Grandvalet, JMLR 5, 2004)."
)
LEVEL = 0.95
_BOUNDS = {  # what a metric can be; one of a user's own can be anything
    **dict.fromkeys(("accuracy", "f1", "f1_micro", "f1_weighted", "precision", "recall", "ece"), (0.0, 1.0)),
    **dict.fromkeys(("token_accuracy", "exact_match", "normalised_match", "rouge1", "rouge2", "rougeL"), (0.0, 1.0)),
    **dict.fromkeys(("bleu", "chrf"), (0.0, 100.0)),
    **dict.fromkeys(("loss", "perplexity"), (0.0, math.inf)),
}


class Spread(TypedDict):
    """One metric over folds: its value in each, mean, standard deviation (n - 1), and the interval of the mean."""

    values: list[float]
    mean: float
    deviation: float
    low: float
    high: float


def spreads(metrics: Sequence[Mapping[str, float | None]], train: int, test: int) -> dict[str, Spread]:
    """The spread of every metric that all folds have; `train` and `test` are how many examples a fold has of each.

    The interval is `METHOD`'s at 95 %, cut at the bounds of the metric.
    """
    found = {}
    for name in metrics[0]:
        values = [fold.get(name) for fold in metrics]
        known = [value for value in values if value is not None]
        if len(known) == len(values) > 1:
            found[name] = _spread(name, known, test / train)
    return found


def _spread(name: str, values: list[float], ratio: float) -> Spread:
    from scipy.stats import t  # type: ignore[import-untyped]

    folds, mean, deviation = len(values), float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(t.ppf((1 + LEVEL) / 2, folds - 1)) * deviation * math.sqrt(1 / folds + ratio)
    least, most = _BOUNDS.get(name, (-math.inf, math.inf))
    low, high = max(least, mean - half), min(most, mean + half)
    return {"values": values, "mean": mean, "deviation": deviation, "low": low, "high": high}
