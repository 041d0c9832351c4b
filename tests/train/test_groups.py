"""Which parameters decay, and which learn faster."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kamerton.config.check import to_config
from kamerton.config.compose import compose_values
from kamerton.model.adapter import apply_adapter
from kamerton.model.tiny import tiny_model
from kamerton.train.build import optimizer_factory, scheduler_factory
from kamerton.train.groups import parameter_groups


def names(model: torch.nn.Module, group: dict[str, Any]) -> set[str]:
    by_id = {id(weight): name for name, weight in model.named_parameters()}
    return {by_id[id(weight)] for weight in group["params"]}


def test_weight_decay_spares_vectors_and_embeddings() -> None:
    model = tiny_model()
    decayed, spared = parameter_groups(model)
    assert all(name.endswith("proj.weight") for name in names(model, decayed))
    assert "weight_decay" not in decayed
    assert spared["weight_decay"] == 0.0
    assert "model.embed_tokens.weight" in names(model, spared)
    assert sum("norm" in name for name in names(model, spared)) == 5
    assert len(decayed["params"]) + len(spared["params"]) == len(list(model.parameters()))


def test_lora_matrices_decay_but_not_those_that_hold_base_weights() -> None:
    (group,) = parameter_groups(apply_adapter(tiny_model(), kind="lora", r=2))
    assert "weight_decay" not in group
    (group,) = parameter_groups(apply_adapter(tiny_model(), kind="lora", r=2), decay_adapter=False)
    assert group["weight_decay"] == 0.0


def test_lora_plus_lets_b_learn_faster_all_along_the_schedule() -> None:
    model = apply_adapter(tiny_model(), kind="lora", r=2)
    config = to_config(compose_values(["adapter.lr_ratio=16", "optimizer.lr=0.01", "scheduler.warmup_steps=2"]))
    optimizer = optimizer_factory(config)(model)
    schedule = scheduler_factory(config)(optimizer, 10)
    slow, fast = optimizer.param_groups
    assert all(".lora_A." in name for name in names(model, slow))
    assert all(".lora_B." in name for name in names(model, fast))
    assert len(slow["params"]) == len(fast["params"]) == 14
    for step in range(10):
        assert fast["lr"] == pytest.approx(16 * slow["lr"]), step
        assert slow["lr"] == pytest.approx(0.01 * (step / 2 if step < 2 else (10 - step) / 8))
        optimizer.step()
        schedule.step()
