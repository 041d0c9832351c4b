"""The head's loss through Liger's fused kernel, which a run on a GPU uses where it is installed and faster.

The chunks of `loss.py` go over the logits several times in float32; Liger's kernel turns a few of them at a time into
their own gradient, in place and in the model's format, and says which token was the most likely one. Cut cross-entropy
(arXiv 2411.09009), the other kernel that never holds all logits, leaves out small gradients by default, sums those of
the head in 16 bits, and does not know the most likely token.

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
from kamerton.model.parts import base_of

_REPEATS = 3
_using: WeakSet[nn.Module] = WeakSet()
Loss = Callable[[Head, Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether Liger's kernel makes the loss; `reason` says why it cannot although it is there."""

    liger: bool
    reason: str | None = None


def can_use(model: nn.Module) -> bool:
    """Return whether `model` is on a GPU, and liger-kernel and Triton are installed."""
    installed = all(importlib.util.find_spec(name) is not None for name in ("triton", "liger_kernel"))
    return installed and next(model.parameters()).device.type == "cuda"


def use_liger(model: nn.Module) -> None:
    """Have `predict` compute the loss of `model` with Liger's kernel from now on."""
    _using.add(base_of(model))


def liger_head(model: nn.Module) -> Head | None:
    """Return the head of a model that was given to `use_liger`; None for others and while more is on it than a projection."""
    head = find_head(model) if base_of(model) in _using else None
    return head if head is not None and head.linear is not None else None


def liger_loss(head: Head, hidden: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
    """Return for the P predictions that `hidden` (P, D) makes: -log p(token) in float32, and the most likely token.

    Multiplies in the format of autocast where that is on, as the head itself does; sums the head's gradient in float32.
    """
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    layer, device = head.linear, hidden.device.type
    assert layer is not None
    form = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else layer.weight.dtype
    with torch.autocast(device, enabled=False):
        found = liger_fused_linear_cross_entropy(
            (hidden if head.scale == 1.0 else hidden * head.scale).to(form),
            layer.weight.to(form),
            token,
            bias=None if layer.bias is None else (layer.bias * head.scale).to(form),
            reduction="none",
            softcap=head.cap,
            accum_dtype=torch.float32,
            return_predicted_tokens=True,
        )
    return found.loss, found.predicted_tokens


def choose_loss(
    model: nn.Module, own: Loss, predictions: int, *, trains_head: bool, form: torch.dtype | None
) -> Choice:
    """Return Time Liger's kernel and `own` once, forward and backward over so many random states, and choose the faster.

    `form` is the format of autocast in training, None without it. Only on a GPU, and for a head that is a projection.
    """
    head = find_head(model) if can_use(model) else None
    if head is None or head.linear is None:
        return Choice(liger=False)
    return compare(head, own, predictions, trains_head=trains_head, form=form)


def compare(head: Head, own: Loss, predictions: int, *, trains_head: bool, form: torch.dtype | None) -> Choice:
    """Return the faster of the two on any device; not Liger's where it fails, or differs by more than rounding."""
    assert head.linear is not None
    weight = head.linear.weight
    draw = torch.Generator(weight.device).manual_seed(0)
    hidden = torch.randn(predictions, weight.shape[1], device=weight.device, generator=draw)
    token = torch.randint(head.vocabulary, (predictions,), device=weight.device, generator=draw)
    hidden = hidden.to(weight.dtype).requires_grad_()
    trained = weight.requires_grad
    weight.requires_grad_(trains_head)
    try:
        with torch.autocast(weight.device.type, dtype=form, enabled=form is not None):
            *theirs, liger_s = _timed(liger_loss, head, hidden, token)
            *ours, own_s = _timed(own, head, hidden, token)
    except Exception as error:  # whatever an installed kernel makes of this device
        return Choice(
            liger=False, reason=f"{type(error).__name__}: {(str(error) or 'no reason given').splitlines()[0]}"
        )
    finally:
        weight.requires_grad_(trained)
    exact = form is None and weight.dtype is torch.float32
    for name, found, expected in zip(("losses", "gradients"), theirs, ours, strict=True):
        difference, size = float((found - expected).abs().max()), float(expected.abs().max())
        if not difference <= (1e-3 if exact else 0.1) * size:
            return Choice(liger=False, reason=f"its {name} differ by {difference:.2g}")
    return Choice(liger=liger_s < own_s)


def _timed(loss: Loss, head: Head, hidden: Tensor, token: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return the losses, their gradient in `hidden`, and the seconds of the fastest pass after a first one, which compiles."""
    assert head.linear is not None
    wanted = [part for part in (hidden, head.linear.weight) if part.requires_grad]
    seconds = []
    for _ in range(1 + _REPEATS):
        _wait(hidden.device)
        began = time.perf_counter()
        nll, _predicted = loss(head, hidden, token)
        gradients = torch.autograd.grad(nll.sum(), wanted)
        _wait(hidden.device)
        seconds.append(time.perf_counter() - began)
    return nll.detach(), gradients[0].float(), min(seconds[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
