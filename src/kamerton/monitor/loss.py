"""Detectors over the training loss: what every step tells. Each is a pure function of the series."""

from __future__ import annotations

import math

import numpy as np

from kamerton.monitor.issue import Issue
from kamerton.monitor.series import FIRST, WINDOW, Series, spread

LEARNT = 0.05  # nats per token under which there is nothing left to learn


def non_finite_loss(series: Series) -> Issue | None:
    """The loss is no number any more."""
    loss = series.last("train/loss")
    if loss is None or math.isfinite(loss):
        return None
    return Issue(
        "non-finite-loss",
        "error",
        f"the loss is {loss} at step {series.step}",
        series.step,
        {"loss": loss, "lr": series.last("lr") or 0.0},
        "lower optimizer.lr, lengthen scheduler.warmup_steps or set clip_norm; in half precision try 32-true",
    )


def loss_spike(series: Series) -> Issue | None:
    """One step's loss far outside what the steps before it show: 8 robust standard deviations, twice their median, and
    a fifth of the first loss above it (one wrong label in a small batch is no spike).

    The deviation is of the loss about its level over the last 40 steps (Hampel's identifier), never less than a tenth
    of that level, so that a smooth curve does not make every step a spike.
    """
    values = series.recent("train/loss", 41)
    if len(values) < 21 or not math.isfinite(values[-1]):
        return None
    before = values[:-1]
    level = float(np.median(before))
    deviation = max(spread(before), 0.1 * level, 0.02)
    away = (values[-1] - level) / deviation
    if away < 8 or values[-1] < 2 * level or values[-1] - level < 0.2 * series.first("train/loss"):
        return None
    return Issue(
        "loss-spike",
        "warn",
        f"the loss jumped to {values[-1]:.3g} at step {series.step}; it was about {level:.3g}",
        series.step,
        {"loss": float(values[-1]), "level": level, "deviations": float(away)},
        "look at the examples of this step; lower optimizer.lr or clip_norm if it comes again",
    )


def learning_rate_too_high(series: Series) -> Issue | None:
    """The loss climbs clear of its lowest level, or of where it began, while the learning rate is near its peak."""
    rise = _rise(series) or _above_the_beginning(series)
    rate = series.last("lr") or 0.0
    if rise is None or rate < 0.5 * series.peak_rate or series.share > 0.5:
        return None
    level, lowest = rise
    return Issue(
        "learning-rate-too-high",
        "error",
        f"the loss rose from {lowest:.3g} to {level:.3g} under a learning rate of {rate:.3g}",
        series.step,
        {"loss": level, "lowest": lowest, "lr": rate},
        "divide optimizer.lr by 3 to 10, or lengthen scheduler.warmup_steps",
    )


def divergence(series: Series) -> Issue | None:
    """The loss climbs clear of its lowest level for good, whatever the learning rate does."""
    rise = _rise(series)
    if rise is None or series.share <= 0.5:
        return None
    level, lowest = rise
    return Issue(
        "divergence",
        "error",
        f"the loss rose from {lowest:.3g} to {level:.3g} and stays there",
        series.step,
        {"loss": level, "lowest": lowest},
        "stop; go on from the best checkpoint with a lower optimizer.lr, and look at the data of these steps",
    )


def _rise(series: Series) -> tuple[float, float] | None:
    """Level and lowest level, where the last `FIRST` steps all lie well above the lowest level so far."""
    values, start = series.recent("train/loss", FIRST), series.start("train/loss")
    lowest = min(series.best_level, start)
    if len(values) < FIRST or not math.isfinite(start) or not math.isfinite(lowest):
        return None
    level = series.level("train/loss", FIRST)
    noise = max(series_noise(series), 0.1 * lowest)
    margin = max(0.5, 0.5 * lowest, 4 * noise)
    clear = float(np.quantile(values, 0.25)) > lowest + noise
    return (level, lowest) if level > lowest + margin and clear else None


def _above_the_beginning(series: Series) -> tuple[float, float] | None:
    """Level and first loss, where training has made the model worse than it came, however it jumps about."""
    level, first = series.level("train/loss", FIRST), series.first("train/loss")
    return (level, first) if series.step > FIRST and level > max(1.3 * first, first + 0.5) else None


def series_noise(series: Series) -> float:
    """How much the loss differs from one step to the next: robust, free of its trend."""
    values = series.recent("train/loss")
    if len(values) < 3:
        return 0.0
    return spread(values[1:] - values[:-1]) / math.sqrt(2)


def learning_rate_too_low(series: Series) -> Issue | None:
    """Past warm-up and a third of the run the loss still falls steadily, and has hardly moved."""
    start, level = series.first("train/loss"), series.level("train/loss", 20)
    if series.share < 1 / 3 or series.step < series.setting.warmup + 30 or not start > LEARNT:
        return None
    fallen = 1 - level / start
    if not -0.02 < fallen < 0.05:
        return None
    norm = series.level("train/grad_norm", 20)
    if norm < 1e-3 * max(series.start("train/grad_norm"), 1e-12):
        return None  # there is no gradient to follow: another detector's matter
    return Issue(
        "learning-rate-too-low",
        "warn",
        f"after {series.share:.0%} of the run the loss is {level:.3g}, and began at {start:.3g}",
        series.step,
        {"loss": level, "start": start, "lr": series.last("lr") or 0.0, "grad_norm": norm},
        "multiply optimizer.lr by 3 to 10; or check that what should be trained is not frozen",
    )


def plateau(series: Series) -> Issue | None:
    """The loss fell, and has stood still for a third of the run where something is left to learn.

    Still: the newer half of the window is not lower than the older by a hundredth, or by what chance would give.
    """
    size = max(60, min(series.setting.steps // 3, WINDOW))
    found = _stalled(series, size)
    if found is None or found[1] > 2 / 3:
        return None
    level, share, gain = found
    return Issue(
        "plateau",
        "warn",
        f"the loss has stayed at {level:.3g} for {size} steps, with {1 - series.share:.0%} of the run to come",
        series.step,
        {"loss": level, "of_start": share, "gain": gain},
        "stop here, or look whether labels contradict each other; a larger adapter.r or another model may go further",
    )


def underfitting(series: Series) -> Issue | None:
    """The loss stands still, or falls ever more slowly, with two thirds of what it began with still there."""
    start, level = series.start("train/loss"), series.level("train/loss", 20)
    values = series.recent("train/loss", 60)
    if series.share < 0.4 or not math.isfinite(start) or len(values) < 60 or level < 0.3:
        return None
    share, gain = level / start, float(np.median(values[:20]) - np.median(values[40:]))
    if not 2 / 3 < share < 0.95 or series.level("train/token_accuracy", 20) > 0.8 or gain > 0.1 * level:
        return None
    return Issue(
        "underfitting",
        "warn",
        f"after {series.share:.0%} of the run the loss is {level:.3g}, of {start:.3g} at its beginning",
        series.step,
        {"loss": level, "of_start": share, "gain": gain},
        "raise optimizer.lr, adapter.r or the number of steps, or choose adapter=full",
    )


def _stalled(series: Series, size: int) -> tuple[float, float, float] | None:
    """Level, its share of the first loss, and the gain over the window, where there is none and much is left."""
    values, start = series.recent("train/loss", size), series.start("train/loss")
    if len(values) < size or not 0.3 <= series.share <= 0.8 or not math.isfinite(start + values.sum()):
        return None
    older, newer = values[: size // 2], values[size // 2 :]
    level, gain = float(np.median(newer)), float(older.mean() - newer.mean())
    chance = math.sqrt((older.var() + newer.var()) / (size // 2))
    if level < 0.3 or series.level("train/token_accuracy", 30) > 0.9 or gain > max(chance, 0.01 * level):
        return None
    return level, level / start, gain
