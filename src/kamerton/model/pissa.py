"""PiSSA: LoRA that starts from a layer's principal singular vectors (arXiv 2404.02948).

W = R + s B0 A0, where A0 and B0 are trained and the residual R replaces the frozen weight. R belongs to its
decomposition, which may differ on another machine. So A0 and B0 are stored as buffers of the frozen layer: checkpoints
contain them, loading a checkpoint recomputes R, and an export can be an ordinary LoRA of the original model,
W + s (B A - B0 A0).

Shapes: A (r, in), B (out, r).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

INITIAL = ("pissa_A", "pissa_B")


def keep_initial(model: nn.Module) -> None:
    """Store the A0 and B0 of every adapted layer; loading other ones from a checkpoint updates R."""
    from peft.tuners.lora import LoraLayer

    layers: list[Any] = [module for module in model.modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        if "default" not in layer.lora_A:
            continue
        base = layer.get_base_layer()
        base.register_buffer("pissa_A", layer.lora_A["default"].weight.detach().clone())
        base.register_buffer("pissa_B", layer.lora_B["default"].weight.detach().clone())
        follow = partial(_follow, scaling=layer.scaling["default"], transposed=layer.fan_in_fan_out)
        base.register_load_state_dict_pre_hook(follow)


def initial_state(model: nn.Module) -> dict[str, Tensor]:
    """Return A0 and B0 of every layer by name; empty for a model without PiSSA."""
    return {name: buffer for name, buffer in model.named_buffers() if name.endswith(INITIAL)}


def as_plain_lora(model: nn.Module, state: Mapping[str, Tensor], config: Any) -> tuple[dict[str, Tensor], Any]:
    """Return an adapter's weights and peft configuration as LoRA of twice the rank, for the original model."""

    def initial(path: str, name: str) -> Tensor:
        layer: Any = model.get_submodule(path)
        buffer: Tensor = getattr(layer.get_base_layer(), name)
        return buffer

    plain = dict(state)
    for name in state:
        path, _, part = name.rpartition(".lora_")
        if part == "A.weight":
            plain[name] = torch.cat([state[name], initial(path, "pissa_A")], dim=0)
        elif part == "B.weight":
            plain[name] = torch.cat([state[name], -initial(path, "pissa_B")], dim=1)
    config = copy.copy(config)
    config.init_lora_weights = True
    config.r *= 2
    config.lora_alpha *= 2**0.5 if config.use_rslora else 2  # the same factor s before B A
    return plain, config


def _follow(base: Any, state: Mapping[str, Tensor], prefix: str, *_: Any, scaling: float, transposed: bool) -> None:
    """Update R for the A0 and B0 of a checkpoint that is about to be loaded, if they differ from the current ones."""
    a, b = (None if (saved := state.get(prefix + name)) is None else saved.to(base.weight.device) for name in INITIAL)
    if a is None or b is None or (torch.equal(a, base.pissa_A) and torch.equal(b, base.pissa_B)):
        return
    change = scaling * (base.pissa_B @ base.pissa_A - b @ a)
    with torch.no_grad():
        base.weight.copy_(base.weight.float() + (change.T if transposed else change))
