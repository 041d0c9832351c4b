"""Detectors of training on rewards; each is a pure function of the series.

They read what a step logs: means over its completions of the rewards (`reward`, and `reward_NAME` of each if there are
several) and of their lengths, and the share of groups (the completions of a prompt) whose rewards are all equal. They
do not see the completions: a reward that is exploited in another way than by length is found in `samples.jsonl`.
"""

from __future__ import annotations

import math

import numpy as np

from kamerton.monitor.issue import Issue
from kamerton.monitor.series import FIRST, Floats, Series

REWARD, SPREAD, NO_SIGNAL = "train/reward", "train/reward_spread", "train/no_signal"
LENGTH, TRUNCATED, ENTROPY, KL = "train/length", "train/truncated", "train/entropy", "train/kl"
RECENT = 20  # steps
FOLLOWS = 0.6  # correlation of the changes from step to step; chance is below 0.45 in 20 steps
QUIET = 0.02  # nats per token
PER_GROUP = 0.8  # share of groups without signal
FEWEST = 5  # steps of a whole run that are enough to judge it


def length_hacking(series: Series) -> Issue | None:
    """Detect a reward that rises with the length of completions alone.

    The length has risen by half (or the share of truncated completions by a quarter), a reward has risen whose changes
    from step to step follow those of the length, and if there are several rewards, all others have gained less than
    half as much, with 95 % confidence. Not seen: small gains by length, or such that different prompts hide.
    """
    lengths, before = series.recent(LENGTH), series.start(LENGTH)
    if len(lengths) < RECENT + FIRST or not before > 0:
        return None
    now = float(np.median(lengths[-RECENT:]))
    more_truncated = series.level(TRUNCATED, RECENT) - series.start(TRUNCATED)
    if not (now > 1.5 * before or more_truncated > 0.25):
        return None
    rewards = _parts(series) or [REWARD]
    gains = {name: _gain(series.recent(name, RECENT), series.beginning(name)) for name in rewards}
    name = max(gains, key=lambda each: gains[each][0])
    most, error = gains.pop(name)
    total, total_error = _gain(series.recent(REWARD, RECENT), series.beginning(REWARD))
    if not (most > 3 * error and total > 3 * total_error) or _correlation(series, name) < FOLLOWS:
        return None
    if not all(gain + 2 * error < most / 2 for gain, error in gains.values()):
        return None
    others = ", ".join(part.removeprefix(f"{REWARD}_") for part in gains)
    stalled = f", and {others} hardly rises" if others else ""
    return Issue(
        "length-hacking",
        "warn",
        f"{name.removeprefix('train/')} rises with the length of the completions ({before:.3g} to {now:.3g} tokens)"
        f"{stalled}",
        series.step,
        {
            "reward": series.level(REWARD, RECENT),
            "length": now,
            "length_at_start": before,
            "truncated": series.level(TRUNCATED, RECENT),
        },
        "read the last lines of samples.jsonl; lower the weight of that reward, or limit the length:"
        " reward.length._target_=kamerton.objective.rewards.length reward.length.most=100",
    )


def no_signal(series: Series) -> Issue | None:
    """Detect steps whose rewards are equal within nearly all groups, so that nothing is learnt.

    The rewards seen so far show whether answers are all right (at the upper end of what was seen; reported with a third
    of the run left, unless there never was a signal) or all wrong (at the lower end, or 0). `policy_collapse` reports a
    run that lost its signal on the way down. A run shorter than the window is judged at its last step, by all groups.
    """
    shares, steps = series.recent(NO_SIGNAL, RECENT), series.setting.steps
    if len(shares) < min(RECENT, max(FEWEST, steps)) or policy_collapse(series) is not None:
        return None
    level, share = series.level(REWARD, RECENT), float(shares.mean())
    if not (share > PER_GROUP if len(shares) == RECENT else share == 1):
        return None
    place = min(_place(series, name) for name in _parts(series) or [REWARD])  # of the part that is least reached
    seen = f"in {share:.0%} of the groups all rewards are equal"
    if place >= 0.75:
        if series.share > 2 / 3 and series.range(NO_SIGNAL)[0] < 1:
            return None  # a run that has learnt its task
        lowest, highest = series.range(REWARD)
        cause = "the prompts are too easy" + (
            ", or the reward does not depend on the answer" if highest - lowest < 1e-9 else ""
        )
        message = f"{seen}, at a reward of {level:.3g}: {cause}, and nothing more is learnt"
        advice = (
            "train fewer steps, or on harder prompts: drop those that are always answered right (samples.jsonl has"
            " every reward)"
        )
    elif place <= 0.25:
        if _has_fallen(series):
            return None  # answers were better at first: `policy_collapse`
        message = f"{seen}, at a reward of {level:.3g}: the prompts are too hard, and nothing is learnt"
        advice = (
            "generate more completions of each prompt (objective.samples=16), begin with a model tuned on answers"
            " (model.adapter=outputs/NAME/ID), or add a reward for a part of the answer; samples.jsonl shows whether"
            " the reward can be reached"
        )
    else:
        message = f"{seen}, at a reward of {level:.3g}: each prompt is too easy or too hard, and nothing more is learnt"
        advice = (
            "generate more completions of each prompt (objective.samples=16), or train on prompts that are answered"
            " right sometimes: samples.jsonl has every reward"
        )
    return Issue("no-signal", "warn", message, series.step, {"no_signal": share, "reward": level}, advice)


def policy_collapse(series: Series) -> Issue | None:
    """Detect a policy that no longer varies its completions, at a reward clearly below the highest one seen.

    The entropy is almost zero and a twentieth of its start, or the rewards within groups, which differed at first (or
    were higher, if it was lost within the first steps), are equal in nearly all of them; and the reward does not rise.
    """
    entropies, start = series.recent(ENTROPY, RECENT), series.start(ENTROPY)
    if len(entropies) < RECENT or series.count(REWARD) < RECENT + FIRST or not start > 0:
        return None
    entropy, shares = float(np.median(entropies)), series.recent(NO_SIGNAL, RECENT)
    is_quiet = entropy < min(QUIET, 0.05 * start)
    is_flat = len(shares) == RECENT and bool(shares.mean() > PER_GROUP)
    is_flat &= series.start(NO_SIGNAL) <= 0.5 or _has_fallen(series)
    place = _place(series)
    lost = is_flat and (entropy < 0.2 * start or place <= 0.25)
    gain, error = _latest_gain(series)
    if not (is_quiet or lost) or place >= 0.75 or gain > 3 * error:
        return None
    level, (_, highest) = series.level(REWARD, RECENT), series.range(REWARD)
    return Issue(
        "policy-collapse",
        "error",
        f"the completions of a prompt hardly differ any more (entropy {entropy:.2g} after {start:.2g} nats per token),"
        f" at a reward of {level:.3g}; up to {highest:.3g} was seen",
        series.step,
        {"entropy": entropy, "entropy_at_start": start, "reward": level, "highest": highest},
        "stop, and train again with optimizer.lr divided by 3 to 10, or with objective.kl_weight=0.04",
    )


def kl_runaway(series: Series) -> Issue | None:
    """Detect a divergence of over a nat per token from the model before training without a reward to show for it.

    The reward is below that of the first steps; or the divergence grows, and the reward falls, or after 80 steps has
    not risen while the growth accelerates. The divergence is logged with `objective.kl_weight` above 0 only.
    """
    values = series.recent(KL)
    if len(values) < 2 * RECENT or not values[-RECENT:].min() > 0.5:
        return None
    before, now = float(np.median(values[-2 * RECENT : -RECENT])), float(np.median(values[-RECENT:]))
    latest, error = _latest_gain(series)
    gain, total_error = _gain(series.recent(REWARD, RECENT), series.beginning(REWARD))
    in_vain = now > 1.6 * before and len(values) >= 4 * RECENT and gain < 3 * total_error
    is_worse = _has_fallen(series) and latest < 3 * error
    if not (now > 1 and (is_worse or (now > 1.3 * before and (latest < -3 * error or in_vain)))):
        return None
    return Issue(
        "kl-runaway",
        "error",
        f"the model is {now:.3g} nats per token from the one before training ({before:.3g} before), and the reward does"
        " not rise",
        series.step,
        {"kl": now, "kl_before": before, "reward": series.level(REWARD, RECENT), "lr": series.last("lr") or 0.0},
        "divide optimizer.lr by 3 to 10 or raise objective.kl_weight: such a model often writes broken text",
    )


def _parts(series: Series) -> list[str]:
    """Return the metrics of the rewards by name; none if there is only one reward."""
    return [name for name in series.names(f"{REWARD}_") if name != SPREAD]


def _place(series: Series, name: str = REWARD) -> float:
    """Return where the latest values of a reward lie between the lowest (0) and the highest (1) of a step so far.

    One that was the same at every step is taken for that of right answers if it is above 0.
    """
    (lowest, highest), level = series.range(name), series.level(name, RECENT)
    if highest - lowest > 1e-9:
        return (level - lowest) / (highest - lowest)
    return 1.0 if level > 0 else 0.0


def _has_fallen(series: Series) -> bool:
    """Return whether the reward of the last steps is below that of the first ones, by over three standard errors."""
    gain, error = _gain(series.recent(REWARD, FIRST), series.beginning(REWARD))
    return gain < -3 * error


def _latest_gain(series: Series) -> tuple[float, float]:
    """Return by how much the reward of the last steps is above that of the steps before, and the standard error."""
    values = series.recent(REWARD)
    return _gain(values[-RECENT:], values[-2 * RECENT : -RECENT])


def _gain(values: Floats, before: Floats) -> tuple[float, float]:
    """Return the difference of the means and its standard error, at least 1e-9; NaN for fewer than two values."""
    if len(values) < 2 or len(before) < 2:
        return math.nan, math.nan
    with np.errstate(all="ignore"):  # comparisons with what is not finite are false
        variance = float(values.var(ddof=1)) / len(values) + float(before.var(ddof=1)) / len(before)
        return float(values.mean() - before.mean()), max(math.sqrt(variance), 1e-9)


def _correlation(series: Series, name: str) -> float:
    """Return the correlation of a reward with the length, in their changes from step to step; 0 if undefined."""
    rewards, lengths = series.recent(name), series.recent(LENGTH)
    count = min(len(rewards), len(lengths))
    with np.errstate(all="ignore"):
        correlation = float(np.corrcoef(np.diff(rewards[-count:]), np.diff(lengths[-count:]))[0, 1])
    return correlation if math.isfinite(correlation) else 0.0
