"""Autograd functions for the parts of a decoder layer, with few passes over memory and few saved tensors.

Each computes the same as the module it replaces, with a hand-written gradient; `fuse.py` decides where they apply.

Shapes: T tokens (all leading dimensions), N features, D head dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from kamerton.model.gradients import weight_gradient
from kamerton.model.matmul import backward_product, forward_product

Grads = tuple[Tensor | None, ...]


@dataclass(frozen=True, slots=True)
class Projection:
    """`x W' + scale * (x A') B'`; `a` and `b` are None without LoRA.

    A kernel keeps references to its tensors, which are parameters, instead of saving them for the backward pass: saved
    tensors may be returned as other objects, and the gradient belongs to the parameters.
    """

    weight: Tensor  # (out, in)
    a: Tensor | None = None  # (rank, in)
    b: Tensor | None = None  # (out, rank)
    scale: float = 1.0

    @property
    def tensors(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The tensors in the order in which gradients are returned."""
        return self.weight, self.a, self.b


def _project(x: Tensor, to: Projection) -> tuple[Tensor, Tensor | None]:
    """Return the output, and `x A'` for the backward pass (None without LoRA)."""
    out = forward_product(x, to.weight)
    if to.a is None or to.b is None:
        return out, None
    low = x @ to.a.t()
    return out.addmm_(low, to.b.t(), alpha=to.scale), low


def _project_back(
    grad: Tensor, x: Tensor, low: Tensor | None, to: Projection, needs: tuple[bool, ...], into: Tensor | None
) -> tuple[Tensor | None, Grads]:
    """Return the gradients of x (added to `into`) and of (W, A, B); `needs` selects those to compute."""
    of_x = None
    if needs[0]:
        of_x = backward_product(grad, to.weight, into)
    of_weight = weight_gradient(to.weight, grad, x) if needs[1] else None
    if to.a is None or to.b is None or low is None:
        return of_x, (of_weight, None, None)
    of_low = (grad @ to.b).mul_(to.scale)
    if of_x is not None:
        of_x.addmm_(of_low, to.a)
    of_a = of_low.t() @ x if needs[2] else None
    # As (rank, out): a tall thin product is several times slower than its transpose.
    of_b = ((low * to.scale).t() @ grad).t() if needs[3] else None
    return of_x, (of_weight, of_a, of_b)


class _Project(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, a: Tensor | None, b: Tensor | None, scale: float) -> Tensor:
        ctx.to = Projection(weight, a, b, scale)
        flat = x.reshape(-1, x.shape[-1])
        out, low = _project(flat, ctx.to)
        ctx.save_for_backward(flat, low)
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Grads:
        x, low = ctx.saved_tensors
        flat = grad.reshape(-1, grad.shape[-1])
        of_x, others = _project_back(flat, x, low, ctx.to, ctx.needs_input_grad[:4], None)
        return None if of_x is None else of_x.view(*grad.shape[:-1], -1), *others, None


class _GatedMLP(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scales: tuple[float, ...], *tensors: Tensor | None) -> Tensor:
        triples = zip(tensors[::3], tensors[1::3], tensors[2::3], scales, strict=True)
        ctx.to = gate_to, up_to, down_to = [Projection(*triple) for triple in triples]  # type: ignore[arg-type]
        flat = x.reshape(-1, x.shape[-1])
        gate, gate_low = _project(flat, gate_to)
        up, up_low = _project(flat, up_to)
        out, down_low = _project(F.silu(gate).mul_(up), down_to)
        ctx.save_for_backward(flat, gate, up, gate_low, up_low, down_low)
        return out.view(x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Grads:
        x, gate, up, gate_low, up_low, down_low = ctx.saved_tensors
        gate_to, up_to, down_to = ctx.to
        needs = ctx.needs_input_grad
        active = F.silu(gate)
        flat = grad.reshape(-1, grad.shape[-1])
        of_hidden, of_down = _project_back(flat, active * up, down_low, down_to, (True, *needs[8:11]), None)
        assert of_hidden is not None
        of_x, of_up = _project_back(active.mul_(of_hidden), x, up_low, up_to, (needs[0], *needs[5:8]), None)
        of_gate_out = torch.ops.aten.silu_backward(of_hidden.mul_(up), gate)
        of_x, of_gate = _project_back(of_gate_out, x, gate_low, gate_to, (needs[0], *needs[2:5]), of_x)
        return None if of_x is None else of_x.view(grad.shape), None, *of_gate, *of_up, *of_down


class _RMSNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        out: Tensor = (x * scale).mul_(weight)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Grads:
        x, weight, scale = ctx.saved_tensors
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
        return _rotate(query, cos, sin), _rotate(key, cos, sin)

    @staticmethod
    def backward(ctx: Any, of_query: Tensor, of_key: Tensor) -> Grads:
        cos, sin = ctx.saved_tensors
        turned = torch.cat(sin.tensor_split(2, dim=-1)[::-1], dim=-1).neg_()  # the transpose of the rotation
        return _rotate(of_query, cos, turned), _rotate(of_key, cos, turned), None, None


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return `(x1, x2) * cos + (-x2, x1) * sin`, halves of the last dimension (Su et al. 2021)."""
    out = x * cos
    (first, second), (sin_first, sin_second) = x.tensor_split(2, dim=-1), sin.tensor_split(2, dim=-1)
    out_first, out_second = out.tensor_split(2, dim=-1)
    out_first.addcmul_(second, sin_first, value=-1)
    out_second.addcmul_(first, sin_second)
    return out


def project(x: Tensor, to: Projection) -> Tensor:
    """Compute a linear layer with or without LoRA; saves only x and its low-rank projection."""
    return _Project.apply(x, *to.tensors, to.scale)  # type: ignore[no-any-return, no-untyped-call]


def gated_mlp(x: Tensor, gate: Projection, up: Projection, down: Projection) -> Tensor:
    """Compute `down(silu(gate(x)) * up(x))`; activation and product are recomputed in the backward pass."""
    scales = (gate.scale, up.scale, down.scale)
    return _GatedMLP.apply(x, scales, *gate.tensors, *up.tensors, *down.tensors)  # type: ignore[no-any-return, no-untyped-call]


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Compute `x / sqrt(mean(x^2) + eps) * weight` over the last dimension; saves x and one number per token."""
    return _RMSNorm.apply(x, weight, eps)  # type: ignore[no-any-return, no-untyped-call]


def rotary(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Apply rotary position embedding to queries and keys (B, H, T, D); saves only cos and sin (B, 1, T, D)."""
    return _Rotary.apply(query, key, cos, sin)  # type: ignore[no-any-return, no-untyped-call]


def token_loss(logits: Tensor, row: Tensor, token: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return -log p(token[p]) for each prediction p, without and with label smoothing: both (P,).

    Prediction p reads `logits[row[p]]` of (R, V). The log-probabilities are the only saved tensor of the logits' size.
    """
    return _TokenLoss.apply(logits, row, token, smoothing)  # type: ignore[no-any-return, no-untyped-call]
