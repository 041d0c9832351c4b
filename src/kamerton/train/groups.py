"""Optimizer parameter groups: which trained parameters decay, and which have their own learning rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def parameter_groups(model: nn.Module, *, lr_ratio: float = 1.0, decay_adapter: bool = True) -> list[dict[str, Any]]:
    """Return the non-empty groups of trained parameters by weight decay and learning rate.

    Weight decay applies to matrices, including LoRA's A and B, where it pulls a layer towards the base model. Exempt
    are vectors (biases, norms, DoRA's magnitudes) and embeddings, whose rows for tokens missing from the data would
    shrink without a gradient (OLMo 2, arXiv 2501.00656). Without `decay_adapter` A and B are exempt too: PiSSA's hold a
    part of the base weights. The learning rate of B is `lr_ratio` times the others' (LoRA+, arXiv 2402.12354);
    `scale_rates` applies it.
    """
    tables = [layer for layer in model.modules() if isinstance(layer, nn.Embedding)]
    embeddings = {id(weight) for table in tables for weight in table.parameters()}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if not weight.requires_grad:
            continue
        decays = weight.ndim >= 2 and id(weight) not in embeddings and (decay_adapter or ".lora_" not in name)
        ratio = lr_ratio if ".lora_B." in name or ".lora_embedding_B." in name else 1.0
        groups.setdefault((ratio, decays), []).append(weight)
    order = sorted(groups, key=lambda key: (key[0] != 1.0, not key[1]))  # the first group's rate is the logged one
    return [
        {"params": groups[ratio, decays], "lr_ratio": ratio, **({} if decays else {"weight_decay": 0.0})}
        for ratio, decays in order
    ]


def scale_rates(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Multiply each group's learning rate by its `lr_ratio`, once, before a schedule reads it; return the optimizer."""
    for group in optimizer.param_groups:
        group["lr"] *= group.pop("lr_ratio", 1.0)
    return optimizer
