"""Layers with the same input: weights in one matrix, one product for all, and the same results."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kamerton.model.adapter import apply_adapter
from kamerton.model.fuse import fuse
from kamerton.model.siblings import ATTENTION_INPUTS, lay_siblings_together, lay_together, siblings, together
from support import families


def loss_and_gradients(model: nn.Module) -> tuple[float, dict[str, Tensor]]:
    ids = torch.arange(42).view(3, 14) * 7 % 101
    loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    return float(loss.detach()), gradients


def with_lora(base: nn.Module, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    model = apply_adapter(base, kind="lora", r=4, **options)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.05)
    return model.train()


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "up_proj"]])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral"])
def test_weights_in_one_matrix_give_the_same_loss_and_gradients(family: str, targets: Any) -> None:
    torch.manual_seed(0)
    base = families.build(family)
    plain = with_lora(copy.deepcopy(base), targets=targets)
    lay_siblings_together(base)
    laid = with_lora(base, targets=targets)
    fuse(laid)
    expected, gradients = loss_and_gradients(plain)
    loss, results = loss_and_gradients(laid)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert results.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert torch.linalg.norm(results[name] - gradient) <= 1e-4 * torch.linalg.norm(gradient), name


def test_query_key_and_value_are_computed_once() -> None:
    base = families.build("llama")
    lay_siblings_together(base)
    model = with_lora(base)
    fuse(model)
    query, key, value = next(siblings(model, ATTENTION_INPUTS))
    x = torch.randn(1, 5, query.in_features)
    first = query(x)
    assert key.ready is not None
    assert first.untyped_storage().data_ptr() == key(x).untyped_storage().data_ptr()
    assert key.ready is None  # nothing is kept for longer than its use
    torch.testing.assert_close(value(torch.ones_like(x)), value.base_layer(torch.ones_like(x)) + lora_of(value, x))


def lora_of(layer: Any, x: Tensor) -> Tensor:
    """What the adapter of a layer adds for ones."""
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    return (torch.ones_like(x) @ a.t() @ b.t()) * layer.scaling["default"]  # type: ignore[no-any-return]


def test_an_older_version_of_the_kernels_leaves_lora_to_its_own_modules() -> None:
    base = families.build("llama")
    fuse(base, kernels=1)
    model = with_lora(base)
    fuse(model, kernels=1)
    query, *_ = next(siblings(model, ATTENTION_INPUTS))
    x = torch.randn(1, 5, query.in_features)
    expected = query.base_layer(x) + query.lora_B["default"](query.lora_A["default"](x)) * query.scaling["default"]
    assert torch.equal(query(x), expected)


def test_an_adapter_that_is_off_leaves_the_base_model_in_the_same_kernels() -> None:
    base = families.build("llama")
    lay_siblings_together(base)
    fuse(base)
    model: Any = apply_adapter(base, kind="lora", r=4)  # adds nothing before it is trained
    fuse(model)
    ids = torch.arange(42).view(3, 14) * 7 % 101
    with torch.no_grad():
        tuned = model(input_ids=ids, use_cache=False).logits
        with model.disable_adapter():
            assert torch.equal(model(input_ids=ids, use_cache=False).logits, tuned)


def test_weights_that_are_laid_together_keep_their_values_and_are_laid_once() -> None:
    weights = [nn.Parameter(torch.randn(rows, 6)) for rows in (4, 2, 3)]
    values = [weight.detach().clone() for weight in weights]
    assert together(weights) is None
    lay_together(weights)
    matrix = together(weights)
    assert matrix is not None
    assert torch.equal(matrix, torch.cat(values))
    assert all(map(torch.equal, weights, values))
    lay_together(weights)
    assert together(weights).data_ptr() == matrix.data_ptr()  # type: ignore[union-attr]
    assert together(weights[::-1]) is None


def test_a_model_whose_weights_are_laid_together_is_saved_whole(tmp_path: Path) -> None:
    base: Any = families.build("llama")
    expected = {name: weight.clone() for name, weight in base.state_dict().items()}
    lay_siblings_together(base)
    base.save_pretrained(tmp_path)
    loaded = type(base).from_pretrained(tmp_path)
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, expected[name]), name
