"""Detectors over the training loss; each is a pure function of the series."""

from __future__ import annotations

import math

import numpy as np

from kamerton.monitor.issue import Issue
from kamerton.monitor.series import FIRST, WINDOW, Series, spread

LEARNT = 0.05  # nats per token; below there is nothing left to learn


def non_finite_loss(series: Series) -> Issue | None:
    """Detect a loss that is not finite."""
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
    """Detect a step's loss far above the steps before.

    It must be 8 robust standard deviations above their median, twice the median, and a fifth of the first loss higher,
    so that one wrong label in a small batch is not a spike. The deviation is that of the last 40 steps (Hampel's
    identifier), at least a tenth of their median, so that a smooth curve does not make every step a spike.
    A step on preferences must also meet less than half of them: a few in the wrong order are not a spike.
    """
    values = series.recent("train/loss", 41)
    if len(values) < 21 or not math.isfinite(values[-1]):
        return None
    before = values[:-1]
    level = float(np.median(before))
    deviation = max(spread(before), 0.1 * level, 0.02)
    deviations = (values[-1] - level) / deviation
    if deviations < 8 or values[-1] < 2 * level or values[-1] - level < 0.2 * series.first("train/loss"):
        return None
    if (series.last("train/preference_accuracy") or 0.0) >= 0.5:
        return None
    return Issue(
        "loss-spike",
        "warn",
        f"the loss jumped to {values[-1]:.3g} at step {series.step}; it was about {level:.3g}",
        series.step,
        {"loss": float(values[-1]), "level": level, "deviations": float(deviations)},
        "look at the examples of this step; lower optimizer.lr or clip_norm if it happens again",
    )


def learning_rate_too_high(series: Series) -> Issue | None:
    """Detect a loss that rises clearly above its lowest level or its start while the learning rate is near its peak."""
    rise = _rise(series)
    if rise is None:
        level, first = series.level("train/loss", FIRST), series.first("train/loss")
        if series.step > FIRST and level > max(1.3 * first, first + 0.5):  # worse than the base model
            rise = level, first
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
    """Detect a loss that rises clearly above its lowest level in the second half of the run."""
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
        "stop; continue from the best checkpoint with a lower optimizer.lr, and look at the data of these steps",
    )


def _rise(series: Series) -> tuple[float, float] | None:
    """Return current and lowest level if the last `FIRST` steps lie clearly above the lowest level; otherwise None."""
    values, start = series.recent("train/loss", FIRST), series.start("train/loss")
    lowest = min(series.best_level, start)
    if len(values) < FIRST or not math.isfinite(start) or not math.isfinite(lowest):
        return None
    level = series.level("train/loss", FIRST)
    noise = max(series_noise(series), 0.1 * lowest)
    margin = max(0.5, 0.5 * lowest, 4 * noise)
    clear = float(np.quantile(values, 0.25)) > lowest + noise
    return (level, lowest) if level > lowest + margin and clear else None


def series_noise(series: Series) -> float:
    """Return a robust standard deviation of the loss from step to step, without its trend."""
    values = series.recent("train/loss")
    if len(values) < 3:
        return 0.0
    return spread(values[1:] - values[:-1]) / math.sqrt(2)


def learning_rate_too_low(series: Series) -> Issue | None:
    """Detect a loss that has moved by less than 5 % after warm-up and a third of the run."""
    start, level = series.first("train/loss"), series.level("train/loss", 20)
    if series.learns_preferences:
        return None  # `no_preference` reports it
    if series.share < 1 / 3 or series.step < series.setting.warmup + 30 or not start > LEARNT:
        return None
    fallen = 1 - level / start
    if not -0.02 < fallen < 0.05:
        return None
    norm = series.level("train/grad_norm", 20)
    if norm < 1e-3 * max(series.start("train/grad_norm"), 1e-12):
        return None  # `vanishing_gradient` reports it
    return Issue(
        "learning-rate-too-low",
        "warn",
        f"after {series.share:.0%} of the run the loss is {level:.3g}; it started at {start:.3g}",
        series.step,
        {"loss": level, "start": start, "lr": series.last("lr") or 0.0, "grad_norm": norm},
        "multiply optimizer.lr by 3 to 10; or check that what should be trained is not frozen",
    )


def plateau(series: Series) -> Issue | None:
    """Detect a loss that fell and has then been constant for a third of the run, although it is not low yet.

    Constant means: the newer half of the window is not lower than the older half by a hundredth, or by chance.
    """
    size = max(60, min(series.setting.steps // 3, WINDOW))
    values, start = series.recent("train/loss", size), series.start("train/loss")
    if len(values) < size or not 0.3 <= series.share <= 0.8 or not math.isfinite(start + values.sum()):
        return None
    if series.learns_preferences:
        return None  # their loss has no level to reach
    older, newer = values[: size // 2], values[size // 2 :]
    level, gain = float(np.median(newer)), float(older.mean() - newer.mean())
    chance = math.sqrt((older.var() + newer.var()) / (size // 2))
    if level < 0.3 or series.level("train/token_accuracy", 30) > 0.9 or gain > max(chance, 0.01 * level):
        return None
    share = level / start
    if share > 2 / 3:
        return None
    return Issue(
        "plateau",
        "warn",
        f"the loss has stayed at {level:.3g} for {size} steps, with {1 - series.share:.0%} of the run to come",
        series.step,
        {"loss": level, "of_start": share, "gain": gain},
        "stop here, or check whether labels contradict each other; a larger adapter.r or another model may reach more",
    )


def underfitting(series: Series) -> Issue | None:
    """Detect a loss that hardly falls any more, with over two thirds of the first loss left."""
    start, level = series.start("train/loss"), series.level("train/loss", 20)
    values = series.recent("train/loss", 60)
    if series.share < 0.4 or not math.isfinite(start) or len(values) < 60 or level < 0.3 or series.learns_preferences:
        return None
    share, gain = level / start, float(np.median(values[:20]) - np.median(values[40:]))
    if not 2 / 3 < share < 0.95 or series.level("train/token_accuracy", 20) > 0.8 or gain > 0.1 * level:
        return None
    return Issue(
        "underfitting",
        "warn",
        f"after {series.share:.0%} of the run the loss is {level:.3g}; it started at {start:.3g}",
        series.step,
        {"loss": level, "of_start": share, "gain": gain},
        "raise optimizer.lr, adapter.r or the number of steps, or choose adapter=full",
    )
