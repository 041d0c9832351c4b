"""The head's loss by Liger's fused kernel, used by a run on a GPU if it is installed and faster.

The chunks of `loss.py` pass over the logits several times in float32; Liger's kernel replaces a few logits at a time by
their gradient, in place and in the model's format, and returns the most likely tokens. Cut cross-entropy (arXiv
2411.09009), the other kernel that never stores all logits, drops small gradients by default, sums those of the head in
16 bits, and does not return the most likely token.

Source: Liger-Kernel (arXiv 2410.10989).
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakSet

import torch
from torch import Tensor, nn

from kamerton.model.head import Head, find_head
from kamerton.model.layers import base_of

_REPEATS = 3
_using: WeakSet[nn.Module] = WeakSet()
Loss = Callable[[Head, Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class LossChoice:
    """Whether Liger's kernel computes the loss; `reason` is why it cannot although it is installed."""

    liger: bool
    reason: str | None = None


def can_use(model: nn.Module) -> bool:
    """Return whether `model` is on a GPU and liger-kernel and Triton are installed."""
    installed = all(importlib.util.find_spec(name) is not None for name in ("triton", "liger_kernel"))
    return installed and next(model.parameters()).device.type == "cuda"


def use_liger(model: nn.Module) -> None:
    """Let `predict` compute the loss of `model` with Liger's kernel."""
    _using.add(base_of(model))


def liger_head(model: nn.Module) -> Head | None:
    """Return the head of a model with `use_liger`; None for other models, and if it is not a plain projection."""
    head = find_head(model) if base_of(model) in _using else None
    return head if head is not None and head.linear is not None else None


def liger_loss(head: Head, hidden: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
    """Return -log p(token) in float32 and the most likely token, for the predictions from `hidden` (P, D): both (P,).

    Multiplies in the format of autocast if it is enabled, like the head; sums the head's gradient in float32.
    """
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    layer, device = head.linear, hidden.device.type
    assert layer is not None
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else layer.weight.dtype
    with torch.autocast(device, enabled=False):
        result = liger_fused_linear_cross_entropy(
            (hidden if head.scale == 1.0 else hidden * head.scale).to(dtype),
            layer.weight.to(dtype),
            token,
            bias=None if layer.bias is None else (layer.bias * head.scale).to(dtype),
            reduction="none",
            softcap=head.cap,
            accum_dtype=torch.float32,
            return_predicted_tokens=True,
        )
    return result.loss, result.predicted_tokens


def choose_loss(
    model: nn.Module, plain: Loss, predictions: int, *, trains_head: bool, dtype: torch.dtype | None
) -> LossChoice:
    """Time Liger's kernel and `plain` forward and backward for this number of predictions, and choose the faster.

    `dtype` is the format of autocast in training, None without it. Without a GPU, or for a head that is not a
    projection, `plain` is chosen.
    """
    head = find_head(model) if can_use(model) else None
    if head is None or head.linear is None:
        return LossChoice(liger=False)
    return faster_loss(head, plain, predictions, trains_head=trains_head, dtype=dtype)


def faster_loss(
    head: Head, plain: Loss, predictions: int, *, trains_head: bool, dtype: torch.dtype | None
) -> LossChoice:
    """Return the faster loss on any device; `plain` if Liger's kernel fails or differs by more than rounding."""
    assert head.linear is not None
    weight = head.linear.weight
    draw = torch.Generator(weight.device).manual_seed(0)
    hidden = torch.randn(predictions, weight.shape[1], device=weight.device, generator=draw)
    token = torch.randint(head.vocabulary, (predictions,), device=weight.device, generator=draw)
    hidden = hidden.to(weight.dtype).requires_grad_()
    trained = weight.requires_grad
    weight.requires_grad_(trains_head)
    try:
        with torch.autocast(weight.device.type, dtype=dtype, enabled=dtype is not None):
            *liger_results, liger_s = _time(liger_loss, head, hidden, token)
            *plain_results, plain_s = _time(plain, head, hidden, token)
    except Exception as error:  # an installed kernel may raise anything on an unsupported device
        reason = (str(error) or "no reason given").splitlines()[0]
        return LossChoice(liger=False, reason=f"{type(error).__name__}: {reason}")
    finally:
        weight.requires_grad_(trained)
    exact = dtype is None and weight.dtype is torch.float32
    for name, actual, expected in zip(("losses", "gradients"), liger_results, plain_results, strict=True):
        difference, size = float((actual - expected).abs().max()), float(expected.abs().max())
        if not difference <= (1e-3 if exact else 0.1) * size:
            return LossChoice(liger=False, reason=f"its {name} differ by {difference:.2g}")
    return LossChoice(liger=liger_s < plain_s)


def _time(loss: Loss, head: Head, hidden: Tensor, token: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return the losses, their gradient in `hidden`, and the seconds of the fastest pass; the first pass compiles."""
    assert head.linear is not None
    inputs = [tensor for tensor in (hidden, head.linear.weight) if tensor.requires_grad]
    seconds = []
    for _ in range(1 + _REPEATS):
        _synchronize(hidden.device)
        start = time.perf_counter()
        nll, _predicted = loss(head, hidden, token)
        gradients = torch.autograd.grad(nll.sum(), inputs)
        _synchronize(hidden.device)
        seconds.append(time.perf_counter() - start)
    return nll.detach(), gradients[0].float(), min(seconds[1:])


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
