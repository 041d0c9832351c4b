"""Detectors over the gradient norm before clipping, and over the number of target tokens."""

from __future__ import annotations

import math

from kamerton.monitor.issue import Issue
from kamerton.monitor.loss import LEARNT
from kamerton.monitor.series import Series


def non_finite_gradient(series: Series) -> Issue | None:
    """Detect a gradient norm that is not finite: the step changed nothing, or broke the weights."""
    norm = series.last("train/grad_norm")
    if norm is None or math.isfinite(norm):
        return None
    return Issue(
        "non-finite-gradient",
        "error",
        f"the gradient's norm is {norm} at step {series.step}",
        series.step,
        {"grad_norm": norm, "lr": series.last("lr") or 0.0},
        "lower optimizer.lr; in half precision try trainer.precision=32-true",
    )


def vanishing_gradient(series: Series) -> Issue | None:
    """Detect that the last ten norms are below a thousandth of the first ten, while the loss is not yet low."""
    values = series.recent("train/grad_norm", 10)
    start = series.start("train/grad_norm")
    loss = series.level("train/loss", 10)
    if len(values) < 10 or not math.isfinite(start) or not loss > LEARNT:
        return None
    bound = max(1e-3 * start, 1e-7)
    if not 0 < values.max() < bound:  # `zero_gradient` reports gradients of 0
        return None
    return Issue(
        "vanishing-gradient",
        "error",
        f"the gradient's norm is {values[-1]:.2g}, and the loss still {loss:.3g}",
        series.step,
        {"grad_norm": float(values[-1]), "start": start, "loss": loss},
        "check what is trained (adapter.targets, adapter.freeze); in half precision use bf16 or 32-true",
    )


def zero_gradient(series: Series) -> Issue | None:
    """Detect that the last five gradients are exactly 0, while the loss is not yet low."""
    values, loss = series.recent("train/grad_norm", 5), series.level("train/loss", 5)
    if len(values) < 5 or values.any() or not loss > LEARNT:
        return None
    return Issue(
        "zero-gradient",
        "error",
        f"the gradient was 0 in the last {len(values)} steps, and the loss still {loss:.3g}",
        series.step,
        {"grad_norm": 0.0, "loss": loss},
        "check what is trained (adapter.targets, adapter.freeze), and that completions have tokens to predict",
    )


def always_clipped(series: Series) -> Issue | None:
    """Detect that nearly all gradients are clipped to less than a twentieth, which leaves only their directions."""
    bound = series.setting.clip_norm
    values = series.recent("train/grad_norm", 50)
    if bound is None or len(values) < 50 or series.step < series.setting.warmup + 50:
        return None
    if series.setting.objective == "ipo":
        return None  # its gradient grows with the distance from the target, 1 / (2 beta)
    ratio = series.level("train/grad_norm", 50) / bound
    share = float((values > bound).mean())
    if share < 0.95 or ratio < 20:
        return None
    return Issue(
        "always-clipped",
        "warn",
        f"{share:.0%} of the last {len(values)} gradients were clipped, typically to 1/{ratio:.0f} of their norm",
        series.step,
        {"share": share, "ratio": ratio, "clip_norm": bound},
        f"set clip_norm to about {ratio * bound:.1g}, or find out why the gradients are that large",
    )


def no_targets(series: Series) -> Issue | None:
    """Detect steps without a token to predict."""
    values = series.recent("train/targets", 20)
    empty = int((values == 0).sum())
    if not empty:
        return None
    return Issue(
        "no-targets",
        "error",
        f"{empty} of the last {len(values)} steps had no token to predict",
        series.step,
        {"steps": float(empty)},
        "look for empty completions, or prompts that fill data.max_length: kamerton prepare --show 3",
    )
