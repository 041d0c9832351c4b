"""Whether training moved its weights at all, told from two numbers of each tensor instead of a copy of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kamerton.monitor.issue import Issue
from kamerton.monitor.series import Series

NOTHING_LEARNT = "nothing-learnt"
Marks = list[list[float]]


def marks(model: nn.Module) -> Marks:
    """Sum and 2-norm in float64 of each trained tensor; of a sharded one, of this process's part."""
    with torch.no_grad():
        found = [_mark(weight) for weight in model.parameters() if weight.requires_grad]
        return torch.stack(found).tolist() if found else []  # one wait for the device


def _mark(weight: Any) -> Tensor:
    part: Tensor = weight.to_local() if hasattr(weight, "to_local") else weight
    total, norm = part.sum(dtype=torch.float64), torch.linalg.vector_norm(part, dtype=torch.float64)
    return torch.stack([total, norm])


def nothing_learnt(series: Series) -> Issue:
    """What to report of a run whose weights are at its end what they were at its beginning."""
    gradient = series.recent("train/grad_norm")
    if series.peak_rate == 0:
        reason = "the learning rate was 0 at every step"
        advice = "shorten scheduler.warmup_steps, or train more steps"
    elif not gradient.any():
        reason = "the gradient was 0"
        advice = "check what is trained (adapter.targets, adapter.freeze), and that completions have tokens to predict"
    else:
        reason = "every update was smaller than the weights' number format shows"
        advice = "raise optimizer.lr, or keep the weights in model.dtype=float32"
    steps = "one step" if series.step == 1 else f"{series.step:,} steps"
    return Issue(
        NOTHING_LEARNT,
        "error",
        f"nothing was learnt: the trained weights are the same after {steps} as before, because {reason}",
        series.step,
        {"lr": series.peak_rate, "grad_norm": float(gradient.max()) if len(gradient) else 0.0},
        advice,
    )
