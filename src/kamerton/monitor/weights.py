"""Detect that training did not change any weight, from two numbers per tensor instead of a copy."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from kamerton.monitor.issue import Issue
from kamerton.monitor.series import Series

NOTHING_LEARNT = "nothing-learnt"
Marks = list[list[float]]


def marks(model: nn.Module) -> Marks:
    """Return sum and 2-norm in float64 of each trained tensor; of a sharded tensor, of this process's part."""
    numbers = []
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                part: Any = weight.to_local() if hasattr(weight, "to_local") else weight
                total, norm = part.sum(dtype=torch.float64), torch.linalg.vector_norm(part, dtype=torch.float64)
                numbers.append(torch.stack([total, norm]))
        return torch.stack(numbers).tolist() if numbers else []  # synchronises with the device once


def nothing_learnt(series: Series) -> Issue:
    """Return the issue of a run whose final weights equal its initial weights."""
    gradient = series.recent("train/grad_norm")
    if series.peak_rate == 0:
        reason = "the learning rate was 0 at every step"
        advice = "shorten scheduler.warmup_steps, or train more steps"
    elif not gradient.any():
        reason = "the gradient was 0"
        advice = "check what is trained (adapter.targets, adapter.freeze), and that completions have tokens to predict"
    else:
        reason = "every update was smaller than the resolution of the weights' number format"
        advice = "raise optimizer.lr, or keep the weights in model.dtype=float32"
    steps = "one step" if series.step == 1 else f"{series.step:,} steps"
    return Issue(
        NOTHING_LEARNT,
        "error",
        f"nothing was learnt: the trained weights are unchanged after {steps}, because {reason}",
        series.step,
        {"lr": series.peak_rate, "grad_norm": float(gradient.max()) if len(gradient) else 0.0},
        advice,
    )
