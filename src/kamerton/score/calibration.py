"""Intervals of the calibration error, whose estimate is too high.

The estimate adds up absolute gaps, so chance in a bin raises it, also where the model is perfectly calibrated.
Resampling adds that chance a second time: the percentile interval lies above the truth, and the basic and the
bias-corrected one mend only a part, for an absolute value is not smooth at zero (Andrews, Inconsistency of the
bootstrap when a parameter is on the boundary of the parameter space, Econometrica 68, 2000). What is sure about the
estimate's expectation: it is no less than the truth (Jensen's inequality), and exceeds it by no more than the mean
absolute chance of the bins, summed (triangle inequality), here `overestimate`. So the bootstrap gives the interval of
the expectation, around the estimate (Efron and Tibshirani, 1993), and its lower end is moved down by that bound. It
covers at least as often as it says; `scripts/bench/calibration.py` measures it next to the others. On the bias:
Roelofs et al., Mitigating bias in calibration error estimation, AISTATS 2022.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

ECE = "ece"

Floats = NDArray[np.float64]
Bounds = tuple[float, float]


def overestimate(counts: Floats) -> float:
    """By how much, at most, a calibration error is too high on average; `counts` are `metrics.calibration_counts`.

    The mean absolute value of normal chance is its standard error times the root of 2/pi; summed over the bins.
    """
    gaps = counts[counts[:, -1] > 0, :-1]
    return float(math.sqrt(2 / math.pi / len(gaps)) * gaps.std(axis=0).sum()) if len(gaps) else 0.0


def error_bounds(value: float, sample: Floats, excess: float, level: float = 0.95) -> Bounds | None:
    """The interval of a calibration error from its resampled values; `excess` is its `overestimate`."""
    bounds = difference_bounds(value, sample, 0.0, excess, level)
    return None if bounds is None else cut(bounds)


def difference_bounds(
    value: float, sample: Floats, base_excess: float, excess: float, level: float = 0.95
) -> Bounds | None:
    """The interval of a calibration error minus a base's, from resampled differences; None where one is undefined."""
    if not np.isfinite(sample).all():
        return None
    low, high = np.quantile(sample, [(1 - level) / 2, (1 + level) / 2]) + (value - sample.mean())
    return float(low) - excess, float(high) + base_excess


def cut(bounds: Bounds) -> Bounds:
    """The part of an interval that a calibration error can be in."""
    return max(0.0, bounds[0]), min(1.0, bounds[1])
