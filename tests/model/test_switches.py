"""Switches change speed and memory: the loss and the gradient stay."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kamerton.errors import UserError
from kamerton.model.adapter import apply_adapter
from kamerton.model.attention import ATTENTION, register_attention
from kamerton.model.fuse import fuse
from kamerton.model.head import find_head
from kamerton.model.loss import predict
from kamerton.model.switches import best_precision, checkpoint_layers, compile_layers, set_attention
from kamerton.model.tiny import tiny_model
from kamerton.model.tree import build_row


def tuned(kind: Any) -> nn.Module:
    register_attention()
    model = tiny_model()
    model.set_attn_implementation(ATTENTION)
    return apply_adapter(model, kind=kind, r=4).train()


def loss_and_gradient(model: nn.Module, size: int = 30) -> tuple[float, Tensor]:
    draw = np.random.default_rng(0)
    rows = [np.concatenate([np.arange(9), draw.integers(3, 200, own)]).astype(np.int32) for own in (5, size, 12)]
    loss = predict(model, build_row(rows, [np.arange(len(row)) > 3 for row in rows], share=True)).loss.sum()
    loss.backward()
    parts = [weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]
    return float(loss.detach()), torch.cat(parts)


def assert_same(model: nn.Module, plain: nn.Module, size: int = 30) -> None:
    loss, gradient = loss_and_gradient(plain, size)
    result, own = loss_and_gradient(model, size)
    assert result == pytest.approx(loss, rel=1e-6)
    assert torch.linalg.norm(own - gradient) <= 1e-5 * torch.linalg.norm(gradient)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_gradient_checkpointing_runs_layers_again_and_gives_the_same(kind: str, fused: bool) -> None:
    plain = tuned(kind)
    model = copy.deepcopy(plain)
    if fused:
        fuse(model)
    checkpoint_layers(model)
    find_head(model)  # runs the model once, to know its head
    calls: list[str] = []
    for name, module in model.named_modules():
        if name.endswith("layers.0.mlp"):
            module.register_forward_pre_hook(lambda *_: calls.append("forward"))
    assert_same(model, plain)
    assert len(calls) == 2


@pytest.mark.slow
def test_compiled_layers_give_the_same_for_every_size_and_compile_once() -> None:
    plain = tuned("lora")
    model = copy.deepcopy(plain)
    torch._dynamo.reset()
    try:
        assert compile_layers(model, backend="aot_eager") == 2
        for size in (30, 41):
            assert_same(model, plain, size)
        compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        assert compiled > 0
        assert_same(model, plain, 73)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled
    finally:
        torch._dynamo.reset()
        register_attention()


def test_attention_of_padded_rows_can_be_chosen() -> None:
    model = tiny_model()
    set_attention(model, "eager")
    assert model.config._attn_implementation == "eager"
    with pytest.raises(UserError, match="flash_attention_2"):
        set_attention(model, "flash_attention_2")


def test_the_number_format_suits_the_hardware() -> None:
    gpu = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    assert best_precision() == ("bf16-mixed" if gpu else "32-true")
