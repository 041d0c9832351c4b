"""Autograd functions for norms, rotations and the loss, with few passes over memory and few saved tensors.

Each computes the same as the module it replaces, with a hand-written gradient; `fuse.py` decides where they apply.

Shapes: T tokens (all leading dimensions), N features, D head dimension.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from kamerton.model import native
from kamerton.model.gradients import call
from kamerton.model.native import compiled_for

Grads = tuple[Tensor | None, ...]


class _RMSNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        library = compiled_for(x)
        if library is not None:
            x = x.contiguous()
            result, scale = native.rms_norm(library, x, weight, eps)
            ctx.save_for_backward(x, weight, scale)
            return result
        scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        out: Tensor = (x * scale).mul_(weight)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Grads:
        x, weight, scale = ctx.saved_tensors
        library = compiled_for(x)
        if library is not None and not ctx.needs_input_grad[1]:
            return native.rms_norm_back(library, grad, x, weight, scale), None, None
        normal = x * scale
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = (grad * normal).sum(dim=tuple(range(grad.ndim - 1)))
        if not ctx.needs_input_grad[0]:
            return None, of_weight, None
        of_x = grad * weight
        share = (of_x * normal).mean(dim=-1, keepdim=True)
        return of_x.addcmul_(normal, share, value=-1).mul_(scale), of_weight, None


class _TokenLoss(Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, row: Tensor, token: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        logprobs = logits.log_softmax(dim=-1)
        nll = -logprobs[row, token]
        ctx.smoothing = smoothing
        ctx.save_for_backward(logprobs, row, token)
        if not smoothing:
            return nll, nll.clone()
        return nll, torch.lerp(nll, -logprobs.mean(dim=-1)[row], smoothing)

    @staticmethod
    def backward(ctx: Any, of_nll: Tensor, of_loss: Tensor) -> Grads:
        logprobs, row, token = ctx.saved_tensors
        total = of_nll + of_loss
        of_row = total.new_zeros(len(logprobs), 1).index_add_(0, row, total[:, None])
        of_logits = logprobs.exp().mul_(of_row)
        if ctx.smoothing:
            share = total.new_zeros(len(logprobs), 1).index_add_(0, row, of_loss[:, None])
            of_logits.sub_(share, alpha=ctx.smoothing / logprobs.shape[-1])
        of_logits.index_put_((row, token), -(of_nll + (1 - ctx.smoothing) * of_loss), accumulate=True)
        return of_logits, None, None, None


class _Rotary(Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(cos, sin)
        library = compiled_for(query)
        if library is not None and _is_plain(query, key, cos, sin):
            parts = [native.rotate(library, x, cos, sin, transposed=False) for x in (query, key)]
            return parts[0], parts[1]
        return _rotate(query, cos, sin), _rotate(key, cos, sin)

    @staticmethod
    def backward(ctx: Any, of_query: Tensor, of_key: Tensor) -> Grads:
        cos, sin = ctx.saved_tensors
        library = compiled_for(of_query)
        if library is not None and _is_plain(of_query, of_key, cos, sin):
            parts = [native.rotate(library, x, cos, sin, transposed=True) for x in (of_query, of_key)]
            return parts[0], parts[1], None, None
        turned = torch.cat(sin.tensor_split(2, dim=-1)[::-1], dim=-1).neg_()  # the transpose of the rotation
        return _rotate(of_query, cos, turned), _rotate(of_key, cos, turned), None, None


def _is_plain(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> bool:
    """Return whether the compiled rotation supports these: one row, heads of an even size without gaps."""
    rows, d = query.shape[2:]
    return (
        len(query) == 1
        and d % 2 == 0
        and query.stride(3) == key.stride(3) == 1
        and cos.numel() == sin.numel() == rows * d
        and cos.is_contiguous()
        and sin.is_contiguous()
    )


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return `(x1, x2) * cos + (-x2, x1) * sin`, halves of the last dimension (Su et al. 2021)."""
    out = x * cos
    (first, second), (sin_first, sin_second) = x.tensor_split(2, dim=-1), sin.tensor_split(2, dim=-1)
    out_first, out_second = out.tensor_split(2, dim=-1)
    out_first.addcmul_(second, sin_first, value=-1)
    out_second.addcmul_(first, sin_second)
    return out


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Compute `x / sqrt(mean(x^2) + eps) * weight` over the last dimension; saves x and one number per token."""
    return call(_RMSNorm, x, weight, eps)  # type: ignore[no-any-return]


def rotary(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Apply rotary position embedding to queries and keys (B, H, T, D); saves only cos and sin (B, 1, T, D)."""
    return call(_Rotary, query, key, cos, sin)  # type: ignore[no-any-return]


def token_loss(logits: Tensor, row: Tensor, token: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return -log p(token[p]) for each prediction p, without and with label smoothing: both (P,).

    Prediction p reads `logits[row[p]]` of (R, V). The log-probabilities are the only saved tensor of the logits' size.
    """
    return _TokenLoss.apply(logits, row, token, smoothing)  # type: ignore[no-any-return, no-untyped-call]
