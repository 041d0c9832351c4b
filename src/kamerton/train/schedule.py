"""The learning rate over the optimizer steps of a run.

The curves are those of transformers' `get_scheduler`, whose import takes a second and 70 MB: it brings peft along.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

WARMUP = 10  # steps, where neither a number nor a share of them is given; see `warmup_length`


def schedule(optimizer: Optimizer, total: int, **options: Any) -> LRScheduler:
    """A schedule over `total` optimizer steps; the options are those of `curve`."""
    from torch.optim.lr_scheduler import LambdaLR  # who only asks for the length of a warm-up does without torch

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
    """What the learning rate of each of `total` steps, counted from 0, is multiplied with.

    Zero at first, rising linearly in the warm-up, then following `name`. `wsd` is warm-up, stable, decay (MiniCPM,
    arXiv 2404.06395): constant until the last `decay_ratio` of all steps, which fall linearly. `cosine` and `wsd` end
    at `min_ratio` of the learning rate, `linear` at zero.
    """
    warmup = warmup_length(total, warmup_steps, warmup_ratio)
    decay = max(1, min(round(decay_ratio * total), total - warmup))  # steps of wsd that fall

    def factor(step: int) -> float:
        if step < warmup:
            least = min_ratio if name == "wsd" else 0.0
            return least + (1 - least) * step / warmup
        if name == "constant":
            return 1.0
        begun = max(warmup, total - decay) if name == "wsd" else warmup
        done = min(1.0, max(0, step - begun) / max(1, total - begun))
        if name == "linear":
            return 1.0 - done
        return min_ratio + (1 - min_ratio) * (0.5 * (1 + math.cos(math.pi * done)) if name == "cosine" else 1 - done)

    return factor


def warmup_length(total: int, steps: int | None, ratio: float | None) -> int:
    """How many of `total` steps the learning rate rises; what nobody typed leaves most of a short run at its peak.

    `steps` is as given, also where that is longer than the run. A share leaves at least the last step, and without
    both it is `WARMUP` steps, at most a tenth of all.
    """
    if steps is not None:
        return steps
    if ratio is not None:
        return min(math.ceil(ratio * total), total - 1)
    return min(WARMUP, total // 10)
