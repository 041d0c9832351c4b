"""The choice of the number format of matrix products (`matmul`): measured on one pass of a run, before it trains."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Literal

import torch
from torch import Tensor, nn

from kamerton.model.fuse import fuse
from kamerton.model.loss import PaddedRows, predict
from kamerton.model.matmul import is_supported
from kamerton.model.tree import TreeRow

Matmul = Literal["float32", "bfloat16"]

_REPEATS = 3
_GAIN = 1.05  # bfloat16 must be faster by this factor
LOSS_TOLERANCE = 0.02  # relative, of the loss of the pass
LEAST_COSINE = 0.99  # between the gradients of both formats


@dataclass(frozen=True, slots=True)
class MatmulChoice:
    """The chosen format, how many times as fast as float32 bfloat16 was, and why float32 was kept if it was."""

    matmul: Matmul
    speedup: float | None = None
    reason: str | None = None


def choose_matmul(model: nn.Module, row: TreeRow | PaddedRows) -> MatmulChoice:
    """Return bfloat16 if it is faster on `row` and agrees with float32 there in the loss and its gradient.

    The gradient compared is that of the weights with one dimension (norms of every layer), which the whole backward
    pass reaches. The model is unchanged, with float32 products.
    """
    if not is_supported():
        return MatmulChoice("float32", reason="this processor does not multiply in bfloat16")
    if row.input_ids.device.type != "cpu":
        return MatmulChoice("float32", reason="it is for processors, not for GPUs")
    weights = [weight for weight in model.parameters() if weight.ndim == 1]
    before = [weight.requires_grad for weight in model.parameters()]
    losses, gradients, seconds = dict[str, float](), dict[str, Tensor](), dict[str, list[float]]()
    try:
        model.requires_grad_(False)
        for weight in weights:
            weight.requires_grad_(True)
        for _ in range(_REPEATS):
            for matmul in ("float32", "bfloat16"):
                fuse(model, matmul=matmul)
                start = perf_counter()
                loss = predict(model, row).loss.mean()
                parts = torch.autograd.grad(loss, weights)
                seconds.setdefault(matmul, []).append(perf_counter() - start)
                losses[matmul], gradients[matmul] = float(loss), torch.cat([part.flatten() for part in parts])
    finally:
        fuse(model, matmul="float32")
        for weight, required in zip(model.parameters(), before, strict=True):
            weight.requires_grad_(required)
    speedup = min(seconds["float32"]) / min(seconds["bfloat16"])
    difference = abs(losses["bfloat16"] - losses["float32"]) / max(losses["float32"], 1e-9)
    cosine = float(torch.cosine_similarity(gradients["float32"], gradients["bfloat16"], dim=0))
    reason = None
    if not difference <= LOSS_TOLERANCE:
        reason = f"the loss differs by {difference:.1%}"
    elif not cosine >= LEAST_COSINE:
        reason = f"the gradient differs (cosine {cosine:.3f})"
    elif speedup < _GAIN:
        reason = f"bfloat16 is not faster here ({speedup:.2f} times)"
    return MatmulChoice("float32" if reason else "bfloat16", speedup, reason)
