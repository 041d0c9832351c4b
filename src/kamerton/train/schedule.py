"""The learning rate over the optimizer steps of a run; the curves are transformers' own."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

WARMUP = 10  # steps, where neither a number nor a share of them is given


def schedule(
    optimizer: Optimizer,
    total: int,
    *,
    name: str,
    warmup_steps: int | None = None,
    warmup_ratio: float | None = None,
    decay_ratio: float = 0.1,
    min_ratio: float = 0.0,
) -> LRScheduler:
    """A schedule over `total` steps: zero at first, rising linearly in the warm-up, then following `name`.

    `wsd` is warm-up, stable, decay (MiniCPM, arXiv 2404.06395): constant until the last `decay_ratio` of all steps,
    which fall linearly. `cosine` and `wsd` end at `min_ratio` of the learning rate, `linear` at zero.
    """
    from transformers import get_scheduler

    warmup = warmup_length(total, warmup_steps, warmup_ratio)
    more: dict[str, Any] = {}
    if name == "cosine":
        more = {"min_lr_rate": min_ratio}
    elif name == "wsd":
        decay = max(1, min(round(decay_ratio * total), total - warmup))
        more = {"num_decay_steps": decay, "decay_type": "linear", "min_lr_ratio": min_ratio}
    found: LRScheduler = get_scheduler(_CURVES[name], optimizer, warmup, total, scheduler_specific_kwargs=more)
    return found


def warmup_length(total: int, steps: int | None, ratio: float | None) -> int:
    """How many of `total` steps the learning rate rises."""
    if ratio is not None:
        return math.ceil(ratio * total)
    return WARMUP if steps is None else steps


_CURVES = {
    "linear": "linear",
    "cosine": "cosine_with_min_lr",
    "constant": "constant_with_warmup",
    "wsd": "warmup_stable_decay",
}
