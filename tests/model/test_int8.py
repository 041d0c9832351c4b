"""Weights of 8 bits: close to the weights, used for new tokens only, and gone afterwards."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kamerton.model import native
from kamerton.model.adapter import apply_adapter
from kamerton.model.fuse import fuse
from kamerton.model.int8 import int8_products, new_tokens, quantize, quantized, rounded
from kamerton.model.siblings import lay_siblings_together
from kamerton.model.tiny import tiny_model
from kamerton.score.generate.batched import Prompt, generate, plan_batches
from kamerton.score.generate.sampling import Decoding

needs_compiler = pytest.mark.skipif(native.library() is None, reason="no C compiler")


def served(kind: str) -> Any:
    """A model as the server has it: its weights laid together, with or without an adapter, with kernels."""
    model: Any = tiny_model(0)
    lay_siblings_together(model)
    fuse(model)
    if kind == "lora":
        model = apply_adapter(model, kind="lora", r=4)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(weight, std=0.05)
        fuse(model)
    return model.eval()


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(1, 13)[None], use_cache=False).logits


@pytest.mark.parametrize("size", [1, 7, 64, 5000])
def test_a_rounded_weight_differs_by_half_a_step_at_most(size: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(5, size) * torch.tensor([[1e-6], [1.0], [1e6], [0.0], [3.0]])
    copied, step = rounded(weight)
    assert copied.dtype is torch.int8
    assert ((copied * step - weight).abs() <= step * 0.5001).all()


@needs_compiler
@pytest.mark.parametrize("rows", [1, 3, 16, 17])
@pytest.mark.parametrize("size", [1, 33, 576, 5000])
def test_the_compiled_product_is_that_of_the_rounded_weight(rows: int, size: int) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(size, 9, bias=False)
    x = torch.randn(rows, size)
    undo = quantize(nn.Sequential(layer))
    (result,) = int8_products(x, [layer.weight])
    undo()
    copied, step = rounded(layer.weight.detach())
    expected = x @ (copied * step).t()
    assert torch.linalg.norm(result - expected) <= 1e-3 * max(1e-3, float(torch.linalg.norm(expected)))


@needs_compiler
def test_the_largest_products_do_not_overflow() -> None:
    layer = nn.Linear(20_000, 2, bias=False)
    with torch.no_grad():
        layer.weight.fill_(2.0)
    undo = quantize(nn.Sequential(layer))
    (result,) = int8_products(torch.full((1, 20_000), 3.0), [layer.weight])
    undo()
    torch.testing.assert_close(result, torch.full((1, 2), 120_000.0))


@pytest.mark.parametrize("kind", ["base", "lora"])
def test_only_new_tokens_use_the_copies_and_nothing_stays(kind: str) -> None:
    model = served(kind)
    exact, classes = logits(model), [type(module) for module in model.modules()]
    with quantized(model, "int8"):
        assert torch.equal(logits(model), exact)
        with new_tokens():
            near = logits(model)
    assert not torch.equal(near, exact)
    assert torch.linalg.norm(near - exact) <= 0.05 * torch.linalg.norm(exact)
    with new_tokens():
        assert torch.equal(logits(model), exact)
    assert [type(module) for module in model.modules()] == classes


def test_models_that_share_weights_share_the_copies() -> None:
    first = served("base")
    second = copy.deepcopy(first, {id(weight): nn.Parameter(weight.detach()) for weight in first.parameters()})
    undo, undo_second = quantize(first), quantize(second)
    try:
        with new_tokens():
            assert torch.equal(logits(first), logits(second))
    finally:
        undo()
        undo_second()


def test_answers_with_copies_are_nearly_those_without() -> None:
    model = served("lora")
    prompts = [Prompt(str(i), np.arange(1 + i, 9 + 2 * i, dtype=np.int32)) for i in range(6)]
    results = []
    for kind in (None, "int8"):
        decoding = Decoding(max_new_tokens=8, quantize=kind)  # type: ignore[arg-type]
        batches = plan_batches(model, prompts, decoding, 64)
        answers: dict[int, Any] = {}
        for part in generate(model, prompts, batches, decoding, ends=frozenset(), pad=0):
            answers |= part
        results.append([answers[i].tokens for i in range(6)])
    exact, near = (np.array(result) for result in results)
    assert (exact[:, 0] == near[:, 0]).all()  # read with the exact weights
    assert (exact == near).mean() >= 0.8
