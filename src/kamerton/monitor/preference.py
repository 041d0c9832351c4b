"""Detectors of training on preferences; each is a pure function of the series.

Rewards are beta times the log-ratio to the reference, summed over a completion; `drift` is in nats per token. A step
without a desired or an undesired completion has no reward of that side (NaN).
"""

from __future__ import annotations

import math

import numpy as np

from kamerton.monitor.issue import Issue
from kamerton.monitor.series import Floats, Series

ACCURACY, MARGIN, DRIFT, LOSS = "train/preference_accuracy", "train/margin", "train/drift", "train/loss"
RECENT = 20  # steps
FLAT = 20.0  # a reward at which the derivative of a sigmoid is below 1e-8
FALLEN, BROKEN = 0.2, 1.0  # nats per token: falls of the chosen completions that raise their perplexity by 22 %, 170 %


def chosen_falling(series: Series) -> Issue | None:
    """Detect that the better completions become less likely while the margin over the worse ones rises.

    Known as likelihood displacement (Razin et al. 2024, arXiv 2410.08847): probability moves to other completions. The
    fall must be at least half of the margin, in nine of ten steps, and over a twentieth of a nat per token; or, for any
    margin, over a fifth of a nat per token since the first steps. The objective apo_down intends it.
    """
    side = "chosen" if series.count("train/reward_chosen") else "desired"
    rewards, margins = _known(series, f"train/reward_{side}"), _known(series, MARGIN)
    if series.setting.objective == "apo_down" or min(len(rewards), len(margins)) < 2 * RECENT or series.share < 0.2:
        return None
    reward, margin, drift = _level(rewards), _level(margins), series.level(DRIFT, RECENT)
    is_rising = margin > max(0.0, float(np.median(margins[:RECENT])))
    fallen = _fallen(series)
    moved = drift if math.isnan(fallen) else fallen
    falls = reward < -0.5 * margin and float(np.quantile(rewards[-RECENT:], 0.9)) < 0 and moved > 0.05
    if not (is_rising and (falls or fallen > FALLEN)):
        return None
    by = f", by {fallen:.2g} nats per token," if fallen > FALLEN else ""
    return Issue(
        "chosen-falling",
        "warn",
        f"the {side} completions become less likely{by} (reward {reward:.3g}) while the margin rises to {margin:.3g}",
        series.step,
        {f"reward_{side}": reward, "margin": margin, "drift": drift},
        "lower optimizer.lr or raise objective.beta; with pairs, objective.sft_weight=0.1 or more keeps the chosen"
        " completions likely",
    )


def margin_saturated(series: Series) -> Issue | None:
    """Detect that every preference is met and the loss is below a fiftieth of its start, with a third left to come."""
    start, losses, accuracies = series.first(LOSS), series.recent(LOSS, RECENT), series.recent(ACCURACY, RECENT)
    if len(accuracies) < RECENT or series.share > 2 / 3 or not (accuracies == 1).all():
        return None
    if not start > 0 or not float(losses.max()) < 0.02 * start:
        return None
    margin = series.level(MARGIN, RECENT)
    return Issue(
        "margin-saturated",
        "warn",
        f"every preference of the last {RECENT} steps is met, with a margin of {margin:.3g} and a loss of"
        f" {losses[-1]:.2g}, and {1 - series.share:.0%} of the run is to come",
        series.step,
        {"margin": margin, "loss": float(losses[-1]), "start": start},
        "train fewer steps: further ones only move the model away from the reference; if it happens early, check that"
        " chosen and rejected do not differ by something trivial: kamerton prepare --show 3",
    )


def kl_runaway(series: Series) -> Issue | None:
    """Detect a model far from the reference: more than a nat per token, and more than preferences can account for.

    Answers of a few tokens may well move by several nats each as the rejected ones become unlikely. Rewards at which
    the loss is flat are too far, and so is, with any beta, a fall of the chosen completions by a nat per token. A model
    that breaks elsewhere is not seen: nothing is generated. Not for ipo, whose margin has a target per token.
    """
    drifts = series.recent(DRIFT, RECENT)
    if series.setting.objective == "ipo" or len(drifts) < RECENT:
        return None
    sides = ("chosen", "rejected", "desired", "undesired")
    rewards = [_known(series, f"train/reward_{side}") for side in sides]
    furthest = max((abs(_level(values)) for values in rewards if len(values)), default=0.0)
    drift, fallen = float(np.median(drifts)), _fallen(series)
    if not (drift > 1 and drifts.min() > 0.5 and (furthest > FLAT or fallen > BROKEN)):
        return None
    lost = f"; the chosen completions are {fallen:.3g} nats per token less likely" if fallen > BROKEN else ""
    return Issue(
        "kl-runaway",
        "error",
        f"the model is {drift:.3g} nats per token from the reference, with rewards of {furthest:.3g}{lost}",
        series.step,
        {"drift": drift, "reward": furthest, "lr": series.last("lr") or 0.0},
        "lower optimizer.lr or raise objective.beta: such a model often writes broken text",
    )


def no_preference(series: Series) -> Issue | None:
    """Detect an accuracy at chance in the second half of the run: below 0.6 with 95 % confidence."""
    values = _known(series, ACCURACY)
    if series.share < 0.5 or len(values) < 2 * RECENT:
        return None
    mean = float(values.mean())
    highest = mean + 2 * float(values.std()) / math.sqrt(len(values))
    if highest >= 0.6:
        return None
    return Issue(
        "no-preference",
        "warn",
        f"after {series.share:.0%} of the run {mean:.0%} of the preferences are met, and chance is 50 %",
        series.step,
        {"preference_accuracy": mean, "highest": highest, "lr": series.last("lr") or 0.0},
        "raise optimizer.lr or train longer; check that the preferences are not random or the wrong way round:"
        " kamerton prepare --show 3",
    )


def _known(series: Series, key: str) -> Floats:
    """Return the kept values of a metric that are numbers, oldest first."""
    values = series.recent(key)
    known: Floats = values[np.isfinite(values)]
    return known


def _fallen(series: Series) -> float:
    """Return by how many nats per token the chosen completions are less likely than in the first steps; NaN without."""
    values, lengths = _known(series, "train/logprob_chosen"), _known(series, "train/length_chosen")
    if len(values) < RECENT or len(values) != len(lengths):
        return math.nan
    start = series.start("train/logprob_chosen") / series.start("train/length_chosen")
    return start - float(np.quantile(values[-RECENT:] / lengths[-RECENT:], 0.75))  # three of four steps are below


def _level(values: Floats) -> float:
    return float(np.median(values[-RECENT:]))
