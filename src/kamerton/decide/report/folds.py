"""Mean, standard deviation and interval of a metric over folds; the interval allows for overlapping training sets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np

from kamerton.score.call_metrics import CALL_METRICS

METHOD = (
    "The interval of the mean is Student's t with the variance of Nadeau and Bengio (Inference for the generalization "
    "error, Machine Learning 52, 2003): s² · (1/k + test/train) instead of s²/k, because the models of two folds share "
    "most of their training examples and are not independent. It was derived for random resampling and is an "
    "approximation for folds, whose variance no estimate is unbiased for (Bengio and Grandvalet, JMLR 5, 2004)."
)
LEVEL = 0.95
_BOUNDS = {  # possible values of a metric; custom metrics are unbounded
    **dict.fromkeys(("accuracy", "f1", "f1_micro", "f1_weighted", "precision", "recall", "ece"), (0.0, 1.0)),
    **dict.fromkeys(("token_accuracy", "exact_match", "normalised_match", "rouge1", "rouge2", "rougeL"), (0.0, 1.0)),
    **dict.fromkeys(CALL_METRICS, (0.0, 1.0)),
    **dict.fromkeys(("bleu", "chrf"), (0.0, 100.0)),
    **dict.fromkeys(("loss", "perplexity"), (0.0, math.inf)),
}


class Spread(TypedDict):
    """One metric over folds: values by fold, mean, standard deviation (n - 1), and the interval of the mean."""

    values: list[float]
    mean: float
    deviation: float
    low: float
    high: float


def spreads(metrics: Sequence[Mapping[str, float | None]], train: float, test: float) -> dict[str, Spread]:
    """Return the spread of every metric that all folds have; `train` and `test` are the numbers of examples of a fold.

    The interval follows `METHOD` at 95 %, clipped to the possible values of the metric.
    """
    from scipy.stats import t  # type: ignore[import-untyped]

    result: dict[str, Spread] = {}
    folds = len(metrics)
    for name in metrics[0]:
        values = [value for fold in metrics if (value := fold.get(name)) is not None]
        if len(values) < folds or folds < 2:
            continue
        mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
        half = float(t.ppf((1 + LEVEL) / 2, folds - 1)) * deviation * math.sqrt(1 / folds + test / train)
        smallest, largest = _BOUNDS.get(name, (-math.inf, math.inf))
        low, high = max(smallest, mean - half), min(largest, mean + half)
        result[name] = {"values": values, "mean": mean, "deviation": deviation, "low": low, "high": high}
    return result
