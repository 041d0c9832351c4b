"""Autograd functions for the linear layers of a decoder layer, with LoRA: few products, few saved tensors.

Projections of the same input (query, key and value; gate and up) share their products: LoRA's of all of them are one,
and those with frozen weights that lie one after the other in memory (`lay_together`) are one as well. Each computes the
same as the modules it replaces, with a hand-written gradient; `fuse.py` decides where they apply.

Shapes: T tokens (all leading dimensions), N features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from kamerton.model import native
from kamerton.model.gradients import call, weight_gradient
from kamerton.model.int8 import int8_products, uses_int8
from kamerton.model.matmul import backward_product, forward_product
from kamerton.model.native import compiled_for
from kamerton.model.siblings import together

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


def _apply(x: Tensor, to: Sequence[Projection]) -> tuple[Sequence[Tensor], Tensor | None]:
    """Return the output of each projection of x (T, in), and `x A'` of all of them (None without LoRA)."""
    weights = [part.weight for part in to]
    matrix = together(weights) if len(to) > 1 else None
    outputs: Sequence[Tensor]
    if uses_int8(weights[0]):
        outputs = int8_products(x, weights)
    elif matrix is None:
        outputs = [forward_product(x, weight) for weight in weights]
    else:
        outputs = forward_product(x, weights[0], matrix).split_with_sizes(list(map(len, weights)), dim=1)
    adapted = [(out, part.b, part.scale) for out, part in zip(outputs, to, strict=True) if part.b is not None]
    if not adapted:
        return outputs, None
    low = x @ _rows([part.a for part in to if part.a is not None]).t()
    for (out, b, scale), share in zip(
        adapted, low.split_with_sizes([b.shape[1] for _, b, _ in adapted], dim=1), strict=True
    ):
        out.addmm_(share, b.t(), alpha=scale)
    return outputs, low


def _apply_back(
    grads: Sequence[Tensor],
    x: Tensor,
    low: Tensor | None,
    to: Sequence[Projection],
    needs_x: bool,
    needs: Sequence[bool],
    side_by_side: Tensor | None = None,
) -> tuple[Tensor | None, Grads]:
    """Return the gradients of x and of each projection's (W, A, B); `needs` selects those to compute.

    `grads` are the gradients of the outputs (T, out), and `side_by_side` the matrix of which they are the columns.
    """
    of_x = _of_input(grads, to, side_by_side) if needs_x else None
    adapted = [(grad, part) for grad, part in zip(grads, to, strict=True) if part.a is not None]
    of_a: list[Tensor] = []
    if low is not None:
        ranks = [part.a.shape[0] for _, part in adapted if part.a is not None]
        of_low = torch.empty_like(low)
        for (grad, part), share in zip(adapted, of_low.split_with_sizes(ranks, dim=1), strict=True):
            assert part.b is not None
            share.addmm_(grad, part.b, beta=0, alpha=part.scale)
        if of_x is not None:
            of_x.addmm_(of_low, _rows([part.a for _, part in adapted if part.a is not None]))
        of_a = list((of_low.t() @ x).split_with_sizes(ranks))
        lows = iter(low.split_with_sizes(ranks, dim=1))
    result: list[Tensor | None] = []
    for index, (grad, part) in enumerate(zip(grads, to, strict=True)):
        needs_w, needs_a, needs_b = needs[3 * index : 3 * index + 3]
        result.append(weight_gradient(part.weight, grad, x) if needs_w else None)
        if part.a is None:
            result += [None, None]
            continue
        share, own = next(lows), of_a.pop(0)
        # As (rank, out): a tall thin product is several times slower than its transpose.
        of_b = grad.new_empty(share.shape[1], grad.shape[1]).addmm_(share.t(), grad, beta=0, alpha=part.scale)
        result += [own if needs_a else None, of_b.t() if needs_b else None]
    return of_x, tuple(result)


def _of_input(grads: Sequence[Tensor], to: Sequence[Projection], side_by_side: Tensor | None) -> Tensor:
    """Return the gradient of x through the weights."""
    matrix = together([part.weight for part in to]) if len(to) > 1 else None
    if matrix is not None:
        both = torch.cat(list(grads), dim=1) if side_by_side is None else side_by_side
        return backward_product(both, to[0].weight, matrix=matrix)
    of_x = None
    for grad, part in zip(grads, to, strict=True):
        of_x = backward_product(grad, part.weight, of_x)
    assert of_x is not None
    return of_x


def _rows(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _projections(tensors: Sequence[Any], scales: Sequence[float]) -> list[Projection]:
    triples = zip(tensors[::3], tensors[1::3], tensors[2::3], scales, strict=True)
    return [Projection(*triple) for triple in triples]


class _Project(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scales: tuple[float, ...], *tensors: Tensor | None) -> tuple[Tensor, ...]:
        ctx.to = _projections(tensors, scales)
        flat = x.reshape(-1, x.shape[-1])
        outputs, low = _apply(flat, ctx.to)
        ctx.save_for_backward(flat, low)
        return tuple(out.view(*x.shape[:-1], -1) for out in outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Grads:
        x, low = ctx.saved_tensors
        flat = [grad.reshape(-1, grad.shape[-1]) for grad in grads]
        of_x, others = _apply_back(flat, x, low, ctx.to, ctx.needs_input_grad[0], ctx.needs_input_grad[2:])
        return None if of_x is None else of_x.view(*grads[0].shape[:-1], -1), None, *others


def _hidden(gate: Tensor, up: Tensor) -> Tensor:
    """Return silu(gate) * up (T, N)."""
    library = compiled_for(gate)
    if library is not None and gate.stride() == up.stride() and gate.stride(1) == 1:
        return native.silu_mul(library, gate, up)
    return F.silu(gate).mul_(up)


def _hidden_back(gate: Tensor, up: Tensor, of_hidden: Tensor) -> Tensor:
    """Return the gradients of gate and up side by side (T, 2 N); overwrites `of_hidden`."""
    library = compiled_for(gate)
    if library is not None and gate.stride() == up.stride() and gate.stride(1) == 1:
        return native.silu_mul_back(library, gate, up, of_hidden)
    both = of_hidden.new_empty(len(of_hidden), 2 * of_hidden.shape[1])
    of_gate, of_up = both.chunk(2, dim=1)
    torch.mul(F.silu(gate), of_hidden, out=of_up)
    torch.ops.aten.silu_backward.grad_input(of_hidden.mul_(up), gate, grad_input=of_gate)
    return both


class _GatedMLP(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scales: tuple[float, ...], *tensors: Tensor | None) -> Tensor:
        ctx.to = to = _projections(tensors, scales)
        flat = x.reshape(-1, x.shape[-1])
        (gate, up), low = _apply(flat, to[:2])
        (out,), down_low = _apply(_hidden(gate, up), to[2:])
        ctx.save_for_backward(flat, gate, up, low, down_low)
        return out.view(x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Grads:
        x, gate, up, low, down_low = ctx.saved_tensors
        needs = ctx.needs_input_grad
        flat = grad.reshape(-1, grad.shape[-1])
        of_hidden, of_down = _apply_back([flat], _hidden(gate, up), down_low, ctx.to[2:], True, needs[8:])
        assert of_hidden is not None
        both = _hidden_back(gate, up, of_hidden)
        of_gate, of_up = both.chunk(2, dim=1)
        of_x, others = _apply_back([of_gate, of_up], x, low, ctx.to[:2], needs[0], needs[2:8], both)
        return None if of_x is None else of_x.view(grad.shape), None, *others, *of_down


def project(x: Tensor, to: Sequence[Projection]) -> tuple[Tensor, ...]:
    """Compute linear layers of the same input, each with or without LoRA; saves only x and its low-rank projections."""
    tensors = [tensor for part in to for tensor in part.tensors]
    return call(_Project, x, tuple(part.scale for part in to), *tensors)  # type: ignore[no-any-return]


def gated_mlp(x: Tensor, gate: Projection, up: Projection, down: Projection) -> Tensor:
    """Compute `down(silu(gate(x)) * up(x))`; activation and product are recomputed in the backward pass."""
    scales = (gate.scale, up.scale, down.scale)
    return call(_GatedMLP, x, scales, *gate.tensors, *up.tensors, *down.tensors)  # type: ignore[no-any-return]
