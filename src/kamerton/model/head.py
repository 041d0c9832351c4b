"""A model split into backbone and head, so that the head can run on selected positions, a chunk at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional as F

from kamerton.model.attention import ATTENTION
from kamerton.model.fuse import FusedLinear
from kamerton.model.layers import base_of
from kamerton.model.matmul import forward_product


@dataclass(frozen=True, slots=True)
class Head:
    """Hidden states (..., D) → logits (..., V): a projection, scaled, then soft-capped (Gemma 2) if `cap` is set.

    Modules are looked up at each use, because adapters and kernels replace them.
    """

    inner: Any
    scale: float
    cap: float | None

    @property
    def vocabulary(self) -> int:
        """The size of the vocabulary, V."""
        return int(self.inner.get_output_embeddings().weight.shape[0])

    @property
    def linear(self) -> nn.Linear | None:
        """The projection; None if it is more than a matrix product, for example with an adapter."""
        layer = self.inner.get_output_embeddings()
        return layer if type(layer) in (nn.Linear, FusedLinear) else None

    def hidden(self, **inputs: Any) -> Tensor:
        """Return the backbone's last hidden states."""
        states: Tensor = self.inner.base_model(use_cache=False, **inputs).last_hidden_state
        return states

    def logits(self, hidden: Tensor, part: slice | None = None) -> Tensor:
        """Return the logits in float32, computed in the model's format and order of operations.

        `part` selects a range of the vocabulary, for a head that is `linear`.
        """
        project = self.inner.get_output_embeddings()
        if part is None:
            logits: Tensor = project(hidden)
        elif project.bias is None:
            logits = forward_product(hidden, project.weight, project.weight[part])
        else:
            logits = F.linear(hidden, project.weight[part], project.bias[part])
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.cap is not None:
            logits = self.cap * torch.tanh(logits / self.cap)
        return logits.float()


_cache: WeakKeyDictionary[nn.Module, tuple[float, float | None] | None] = WeakKeyDictionary()


def find_head(model: nn.Module) -> Head | None:
    """Return the head of `model`, checked once against the model's forward; None if it is not supported.

    Not supported are heads with further operations, parameters that are sharded over processes (only the model's own
    forward gathers them), and adapters that put tokens before the input.
    """
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        return None
    inner = base_of(model)
    project = inner.get_output_embeddings()
    if project is None or inner.base_model is inner or isinstance(next(project.parameters()), DTensor):
        return None
    if inner not in _cache:
        config = inner.config
        scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
        cap = getattr(config, "final_logit_softcapping", None)
        _cache[inner] = (scale, cap) if _matches_forward(Head(inner, scale, cap)) else None
    factors = _cache[inner]
    return None if factors is None else Head(inner, *factors)


def _matches_forward(head: Head) -> bool:
    """Return whether the head reproduces the logits of the model's forward on a fixed input."""
    inner = head.inner
    device, training, before = inner.device, inner.training, inner.config._attn_implementation
    ids = torch.arange(1, 5, device=device)[None] % head.vocabulary
    inner.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            if before == ATTENTION:  # it needs a tree
                inner.set_attn_implementation("eager")
            expected = inner(input_ids=ids, use_cache=False).logits.float()
            actual = head.logits(head.hidden(input_ids=ids))
    except (AttributeError, TypeError):
        return False
    finally:
        if before == ATTENTION:
            inner.set_attn_implementation(before)
        inner.train(training)
    return expected.shape == actual.shape and torch.allclose(actual, expected, rtol=1e-3, atol=1e-3)
