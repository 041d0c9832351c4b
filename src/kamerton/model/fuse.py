"""Replacing a model's modules by the lean kernels if both compute the same.

A module is recognised by its parts, and its class is replaced only after the kernel reproduced the module's output on a
fixed input. For LoRA this test is weak, because B is still zero: there the structure decides (`_projection`). For an
input that does not qualify (autocast, another type or device, dropout, merged adapters) the module's own forward runs,
decided at each call.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from kamerton.model import native
from kamerton.model.kernels import rms_norm, rotary
from kamerton.model.layers import base_of
from kamerton.model.matmul import is_bfloat16, use_bfloat16, use_float32
from kamerton.model.projections import Projection, gated_mlp, project
from kamerton.model.siblings import ATTENTION_INPUTS, siblings

KERNELS = COMPILED = 3  # version of the arithmetic; 1: peft computes LoRA in float32; 3: with compiled parts (`native`)

_ROTARY = "apply_rotary_pos_emb"


def fuse(model: nn.Module, *, matmul: str = "float32", kernels: int = KERNELS) -> list[str]:
    """Replace all supported modules; return the names of the replaced classes and functions.

    `matmul` bfloat16: the products of the model's own linear layers are multiplied in bfloat16 (`matmul.py`).
    `kernels` is the version of the arithmetic that the run began with (`KERNELS`).
    """
    native.use(kernels >= COMPILED)
    linear = _fuse_linear(model, matmul, kernels)
    replacements: dict[type, type | None] = {}
    for module in model.modules():
        kind = type(module)
        if kind not in replacements:
            replacements[kind] = None
            mixin, size = _recognise(module)
            if mixin is not None and not issubclass(kind, mixin):
                fused_kind = type(f"Fused{kind.__name__}", (mixin, kind), {"__module__": kind.__module__})
                replacements[kind] = fused_kind if _agrees(module, fused_kind, size) else None
        fused = replacements[kind]
        if fused is not None:
            module.__class__ = fused
    files = {name for name in {kind.__module__ for kind in replacements} if _fuse_rotary(name)}
    classes = [kind.__name__ for kind, fused in replacements.items() if fused is not None]
    _group_siblings(model, kernels)
    return sorted([*classes, *_fuse_tied(model), *linear]) + sorted(files)


def unfuse(model: nn.Module) -> None:
    """Undo the changes of an earlier model's `fuse` to the modeling files that both models share."""
    for name in {type(module).__module__ for module in model.modules()}:
        original = getattr(vars(sys.modules[name]).get(_ROTARY), "original", None)
        if original is not None:
            setattr(sys.modules[name], _ROTARY, original)


class _FusedNorm(nn.Module):
    def forward(self, hidden_states: Tensor) -> Tensor:
        if not _plain(hidden_states):
            return super().forward(hidden_states)  # type: ignore[no-any-return]
        return rms_norm(hidden_states, self.weight, self.variance_epsilon)  # type: ignore[arg-type]


class _FusedMLP(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        parts = [_projection(layer, self.training) for layer in (self.gate_proj, self.up_proj, self.down_proj)]
        gate, up, down = parts
        if gate is None or up is None or down is None or not _plain(x):
            return super().forward(x)  # type: ignore[no-any-return]
        return gated_mlp(x, gate, up, down)


class _FusedLoRA(nn.Module):
    """A layer with LoRA. The first of several layers with the same input computes them all."""

    others: tuple[Any, ...] = ()  # the layers that follow with the same input
    ready: tuple[Tensor, Tensor] | None = None  # input and output, computed by the first layer

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        ready, self.ready = self.ready, None
        if ready is not None and ready[0] is x and not args and not kwargs:
            return ready[1]
        layers = (self, *self.others)
        projections = [_projection(layer, self.training) for layer in layers]
        if None in projections or args or kwargs or not _plain(x):
            return super().forward(x, *args, **kwargs)  # type: ignore[no-any-return]
        first, *rest = project(x, projections)  # type: ignore[arg-type]
        for layer, output in zip(self.others, rest, strict=True):
            layer.ready = x, output
        return first


class FusedLinear(nn.Linear):
    """A linear layer whose gradient can be computed in place (`gradients`), and its products in bfloat16 (`matmul`)."""

    def forward(self, x: Tensor) -> Tensor:
        return project(x, [Projection(self.weight)])[0] if _plain(x) else super().forward(x)


class _FusedEmbedding(nn.Embedding):
    """An embedding that shares its weight with the head: its few rows of gradient are added to the head's matrix.

    By default they become a separate matrix, nearly all zeros, and the sum of both a third one.
    """

    def forward(self, ids: Tensor) -> Tensor:
        if not _plain(self.weight):
            return super().forward(ids)
        return F.embedding(ids, self.weight, self.padding_idx, sparse=True)


def _fuse_linear(model: nn.Module, matmul: str, kernels: int) -> list[str]:
    """Replace the class of linear layers outside adapters, which have their own kernel, and mark their weights.

    Frozen layers need no kernel in float32, and their adapters' kernels need plain ones.
    """
    linear = [
        module
        for name, module in model.named_modules()
        if type(module) in (nn.Linear, FusedLinear) and module.bias is None and ".lora_" not in name
    ]
    for module in linear:
        if module.weight.requires_grad or matmul == "bfloat16":
            module.__class__ = FusedLinear
        elif kernels > 1:
            module.__class__ = nn.Linear
    (use_bfloat16 if matmul == "bfloat16" else use_float32)(module.weight for module in linear)
    return ["Linear"] if any(type(module) is FusedLinear for module in linear) else []


def _group_siblings(model: nn.Module, kernels: int) -> None:
    """Let the first of several layers with LoRA and the same input compute them all."""
    for layers in siblings(model, ATTENTION_INPUTS):
        together = kernels > 1 and all(isinstance(layer, _FusedLoRA) for layer in layers)
        layers[0].others = tuple(layers[1:]) if together else ()


def _fuse_tied(model: nn.Module) -> list[str]:
    """Replace the class of an input embedding that is tied to the head; the gradient of both together is dense."""
    inner = base_of(model)
    if not isinstance(inner, PreTrainedModel):
        return []
    embedding, head = inner.get_input_embeddings(), inner.get_output_embeddings()
    if (
        type(embedding) is not nn.Embedding
        or type(head) not in (nn.Linear, FusedLinear)
        or embedding.weight is not head.weight
    ):
        return []
    if embedding.max_norm is not None or embedding.scale_grad_by_freq or not embedding.weight.requires_grad:
        return []
    embedding.__class__ = _FusedEmbedding
    return ["Embedding"]


def _recognise(module: nn.Module) -> tuple[type | None, int]:
    """Return the kernel class for the module's parts (None if unsupported), and the size of its input."""
    name = type(module).__name__
    if name.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
        return _FusedNorm, module.weight.numel()  # type: ignore[operator]
    if all(hasattr(module, part) for part in ("gate_proj", "up_proj", "down_proj", "act_fn")):
        projection = _projection(module.gate_proj, training=False)
        return (_FusedMLP, projection.weight.shape[1]) if projection else (None, 0)
    if hasattr(module, "lora_A"):
        projection = _projection(module, training=False)
        return (_FusedLoRA, projection.weight.shape[1]) if projection else (None, 0)
    return None, 0


def _agrees(module: nn.Module, fused: type, size: int) -> bool:
    """Return whether the fused class reproduces the module's output; the module is unchanged."""
    weight = next(module.parameters())
    x = torch.linspace(-2, 2, 3 * size, dtype=weight.dtype, device=weight.device).view(1, 3, size).sin()
    kind, training = type(module), module.training
    with torch.no_grad():
        try:
            module.eval()
            expected = module(x)
            module.__class__ = fused
            actual = module(x)
        finally:
            module.__class__ = kind
            module.train(training)
    return bool(torch.linalg.norm(actual - expected) <= 1e-5 * torch.linalg.norm(expected))


def _fuse_rotary(name: str) -> bool:
    """Replace the rotary function of a modeling file, which its attention looks up at every call."""
    module = sys.modules[name]
    original = vars(module).get(_ROTARY)
    if original is None or hasattr(original, "original"):
        return False
    query, key = torch.linspace(-1, 1, 48).view(1, 2, 3, 8), torch.linspace(1, 2, 24).view(1, 1, 3, 8)
    cos, sin = query[:, 0].cos(), key[:, 0].sin()
    try:
        fused = _fused_rotary(original)
        agree = all(map(torch.allclose, fused(query, key, cos, sin), original(query, key, cos, sin)))
    except (TypeError, RuntimeError):  # another signature or layout
        return False
    if agree:
        setattr(module, _ROTARY, fused)
    return agree


def _fused_rotary(original: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    def apply_rotary_pos_emb(
        q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if args or kwargs or not _plain(q) or cos.shape[-1] != q.shape[-1]:
            return original(q, k, cos, sin, *args, **kwargs)
        return rotary(q, k, cos.unsqueeze(1), sin.unsqueeze(1))

    apply_rotary_pos_emb.original = original  # type: ignore[attr-defined]
    return apply_rotary_pos_emb


def _plain(x: Tensor) -> bool:
    """Return whether a tensor is float32 on the CPU outside autocast, as the kernels need (on a GPU: compile)."""
    return x.dtype is torch.float32 and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def _projection(layer: Any, training: bool) -> Projection | None:
    """Return the layer's weights if it is a matrix product with at most one adapter on it, else None."""
    if type(layer) in (nn.Linear, FusedLinear):
        return Projection(layer.weight) if layer.bias is None else None
    base: Any = getattr(layer, "base_layer", None)
    if not hasattr(layer, "lora_A") or type(base) not in (nn.Linear, FusedLinear):
        return None
    # In float32, a FusedLinear below an adapter keeps the rounding of earlier versions.
    if layer.merged or base.bias is not None or (type(base) is FusedLinear and not is_bfloat16(base.weight)):
        return None
    if layer.disable_adapters:
        return Projection(base.weight)
    name = layer.active_adapters[0] if len(layer.active_adapters) == 1 and not layer.lora_variant else None
    if name not in layer.lora_A or layer.lora_A[name].bias is not None or layer.lora_B[name].bias is not None:
        return None
    if training and not isinstance(layer.lora_dropout[name], nn.Identity):
        return None
    return Projection(base.weight, layer.lora_A[name].weight, layer.lora_B[name].weight, float(layer.scaling[name]))
