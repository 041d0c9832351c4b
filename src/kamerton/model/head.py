"""A model in two parts, backbone and head, so that the head can run on some positions, a chunk at a time."""

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
from kamerton.model.parts import base_of


@dataclass(frozen=True, slots=True)
class Head:
    """Hidden states (..., D) → logits (..., V): a projection, scaled, then soft-capped (Gemma 2) where `cap` is set.

    Its modules are looked up when they are used: adapters and kernels take the place of others.
    """

    inner: Any
    scale: float
    cap: float | None

    @property
    def vocabulary(self) -> int:
        """V."""
        return int(self.inner.get_output_embeddings().weight.shape[0])

    @property
    def linear(self) -> nn.Linear | None:
        """The projection; None where it is more than a matrix product, such as one with an adapter on it."""
        layer = self.inner.get_output_embeddings()
        return layer if type(layer) in (nn.Linear, FusedLinear) else None

    def hidden(self, **inputs: Any) -> Tensor:
        """Return the backbone's last hidden states."""
        states: Tensor = self.inner.base_model(use_cache=False, **inputs).last_hidden_state
        return states

    def logits(self, hidden: Tensor, part: slice | None = None) -> Tensor:
        """Return in float32; the steps before it in the model's own format and order.

        `part` is a run of the vocabulary, for a head that is `linear`.
        """
        project = self.inner.get_output_embeddings()
        if part is None:
            logits: Tensor = project(hidden)
        else:
            logits = F.linear(hidden, project.weight[part], None if project.bias is None else project.bias[part])
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.cap is not None:
            logits = self.cap * torch.tanh(logits / self.cap)
        return logits.float()


_known: WeakKeyDictionary[nn.Module, tuple[float, float | None] | None] = WeakKeyDictionary()


def find_head(model: nn.Module) -> Head | None:
    """Return the head of `model`, checked once against its own forward; None where it does more than is known here.

    None too for parameters that are sharded over processes, which only the model's own forward gathers, and for
    adapters that put tokens before the input.
    """
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        return None
    inner = base_of(model)
    project = inner.get_output_embeddings()
    if project is None or inner.base_model is inner or isinstance(next(project.parameters()), DTensor):
        return None
    if inner not in _known:
        config = inner.config
        scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
        cap = getattr(config, "final_logit_softcapping", None)
        _known[inner] = (scale, cap) if _is_right(Head(inner, scale, cap)) else None
    known = _known[inner]
    return None if known is None else Head(inner, *known)


def _is_right(head: Head) -> bool:
    inner = head.inner
    device, training, before = inner.device, inner.training, inner.config._attn_implementation
    ids = torch.arange(1, 5, device=device)[None] % head.vocabulary
    inner.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            if before == ATTENTION:  # it needs a tree
                inner.set_attn_implementation("eager")
            expected = inner(input_ids=ids, use_cache=False).logits.float()
            found = head.logits(head.hidden(input_ids=ids))
    except (AttributeError, TypeError):
        return False
    finally:
        if before == ATTENTION:
            inner.set_attn_implementation(before)
        inner.train(training)
    return expected.shape == found.shape and torch.allclose(found, expected, rtol=1e-3, atol=1e-3)
