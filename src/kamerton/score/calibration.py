"""Intervals of the calibration error, whose estimate is biased upwards.

The estimate sums absolute gaps, so chance in a bin raises it even if the model is perfectly calibrated. Resampling adds
that chance a second time: the percentile interval lies above the truth, and the basic and the bias-corrected interval
repair only part of it, because an absolute value is not smooth at zero (Andrews, Inconsistency of the bootstrap when a
parameter is on the boundary of the parameter space, Econometrica 68, 2000). The estimate's expectation is at least the
truth (Jensen's inequality), and exceeds it by at most the mean absolute chance summed over the bins (triangle
inequality), here `overestimate`. So the bootstrap gives the interval of the expectation, around the estimate (Efron and
Tibshirani, 1993), and its lower end is moved down by that bound. Its coverage is at least the nominal one;
`scripts/bench/calibration.py` measures it next to the others. On the bias: Roelofs et al., Mitigating bias in
calibration error estimation, AISTATS 2022.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

ECE = "ece"

Floats = NDArray[np.float64]
Bounds = tuple[float, float]


def overestimate(counts: Floats) -> float:
    """Return an upper bound of the bias of a calibration error; `counts` are `metrics.calibration_counts`.

    The mean absolute value of a normal error is its standard error times sqrt(2/pi); the bound sums it over the bins.
    """
    gaps = counts[counts[:, -1] > 0, :-1]
    return float(math.sqrt(2 / math.pi / len(gaps)) * gaps.std(axis=0).sum()) if len(gaps) else 0.0


def error_bounds(value: float, sample: Floats, excess: float, level: float = 0.95) -> Bounds | None:
    """Return the interval of a calibration error from its resampled values; `excess` is its `overestimate`."""
    bounds = difference_bounds(value, sample, 0.0, excess, level)
    return None if bounds is None else cut(bounds)


def difference_bounds(
    value: float, sample: Floats, base_excess: float, excess: float, level: float = 0.95
) -> Bounds | None:
    """Return the interval of a difference of calibration errors, from resampled differences; None if one is undefined.

    `base_excess` and `excess` are the `overestimate` of both.
    """
    if not np.isfinite(sample).all():
        return None
    low, high = np.quantile(sample, [(1 - level) / 2, (1 + level) / 2]) + (value - sample.mean())
    return float(low) - excess, float(high) + base_excess


def cut(bounds: Bounds) -> Bounds:
    """Clip an interval to the possible values of a calibration error, [0, 1]."""
    return max(0.0, bounds[0]), min(1.0, bounds[1])
