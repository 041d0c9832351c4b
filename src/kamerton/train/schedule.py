"""Learning-rate schedules over the optimizer steps of a run.

The curves are those of transformers' `get_scheduler`, whose import takes a second and 70 MB because it imports peft.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

WARMUP = 10  # steps, if neither a number nor a ratio is configured; see `warmup_length`


def schedule(optimizer: Optimizer, total: int, **options: Any) -> LRScheduler:
    """Return a schedule over `total` optimizer steps; the options are those of `curve`."""
    from torch.optim.lr_scheduler import LambdaLR  # lazy: `warmup_length` works without torch

    return LambdaLR(optimizer, curve(total, **options))


def curve(
    total: int,
    *,
    name: str,
    warmup_steps: int | None = None,
    warmup_ratio: float | None = None,
    decay_ratio: float = 0.1,
    min_ratio: float = 0.0,
) -> Callable[[int], float]:
    """Return the function from a step (from 0, of `total`) to the factor of its learning rate.

    The factor rises linearly from zero during warm-up, then follows `name`. `wsd` is warm-up, stable, decay (MiniCPM,
    arXiv 2404.06395): constant, then a linear decay over the last `decay_ratio` of all steps. `cosine` and `wsd` end
    at `min_ratio` of the learning rate, `linear` at zero.
    """
    warmup = warmup_length(total, warmup_steps, warmup_ratio)
    decay = max(1, min(round(decay_ratio * total), total - warmup))  # decay steps of wsd

    def factor(step: int) -> float:
        if step < warmup:
            start = min_ratio if name == "wsd" else 0.0
            return start + (1 - start) * step / warmup
        if name == "constant":
            return 1.0
        decay_start = max(warmup, total - decay) if name == "wsd" else warmup
        progress = min(1.0, max(0, step - decay_start) / max(1, total - decay_start))
        if name == "linear":
            return 1.0 - progress
        shape = 0.5 * (1 + math.cos(math.pi * progress)) if name == "cosine" else 1 - progress
        return min_ratio + (1 - min_ratio) * shape

    return factor


def warmup_length(total: int, steps: int | None, ratio: float | None) -> int:
    """Return the number of warm-up steps in a run of `total` steps.

    `steps` is returned unchanged, even if it exceeds the run. With `ratio`, at least the last step has the full rate.
    Without both it is `WARMUP` steps, at most a tenth of all, so that a short run is mostly at its full rate.
    """
    if steps is not None:
        return steps
    if ratio is not None:
        return min(math.ceil(ratio * total), total - 1)
    return min(WARMUP, total // 10)
