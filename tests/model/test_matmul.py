"""Products in bfloat16: close to float32's, exact in float32 again afterwards, the same loss in every batch layout."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kamerton.config.compose import compose_values
from kamerton.model.adapter import apply_adapter
from kamerton.model.capabilities import choose_packing
from kamerton.model.fuse import FusedLinear, fuse
from kamerton.model.load import load_model
from kamerton.model.loss import build_padded, predict
from kamerton.model.matmul import forward_product, is_supported, use_bfloat16, use_float32
from kamerton.model.matmul_probe import choose_matmul
from kamerton.model.tree import build_row

needs_units = pytest.mark.skipif(not is_supported(), reason="this processor does not multiply in bfloat16")


@pytest.fixture
def weight() -> Iterator[Tensor]:
    weight = torch.randn(96, 64, generator=torch.Generator().manual_seed(1))
    use_bfloat16([weight])
    yield weight
    use_float32([weight])


@needs_units
def test_a_product_rounds_its_inputs_alone(weight: Tensor) -> None:
    x = torch.randn(40, 64, generator=torch.Generator().manual_seed(2))
    expected = x.bfloat16().double() @ weight.bfloat16().double().t()
    actual = forward_product(x, weight)
    assert actual.dtype is torch.float32
    assert torch.allclose(actual.double(), expected, atol=1e-4)
    assert not torch.allclose(actual, x @ weight.t(), atol=1e-4)


def test_float32_is_restored(weight: Tensor) -> None:
    x = torch.randn(40, 64)
    forward_product(x, weight)
    with pytest.raises(RuntimeError):
        forward_product(torch.randn(40, 3), weight)
    assert torch.backends.mkldnn.matmul.fp32_precision == "none"
    use_float32([weight])
    assert torch.equal(forward_product(x, weight), x @ weight.t())


def test_a_part_of_the_rows_is_that_part_of_the_product(weight: Tensor) -> None:
    x = torch.randn(20, 64)
    assert torch.allclose(forward_product(x, weight, weight[8:24]), forward_product(x, weight)[:, 8:24], atol=1e-5)


def rows(count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    prefix = rng.integers(1, 100, 12)
    tokens = [np.concatenate([prefix, rng.integers(1, 100, 5 + i)]).astype(np.int32) for i in range(count)]
    return tokens, [np.arange(len(row)) >= 10 for row in tokens]


def gradients(model: nn.Module, row: object) -> tuple[float, Tensor]:
    loss = predict(model, row).loss.mean()  # type: ignore[arg-type]
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    return float(loss), torch.cat([part.flatten() for part in torch.autograd.grad(loss, trained)])


@needs_units
@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_loss_and_gradient_of_a_step(adapter: str) -> None:
    """bfloat16 differs from float32 by its rounding, and between layouts by far less."""
    model = load_model("tiny", seed=3)
    choose_packing(model, "tree")
    tuned = apply_adapter(model, kind=adapter) if adapter == "full" else apply_adapter(model, kind="lora", r=4)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.02)
    tokens, targets = rows(6)
    tree, padded = build_row(tokens, targets, share=True), build_padded(tokens, targets, pad=0)
    fuse(tuned)
    exact_loss, exact = gradients(tuned, tree)
    fuse(tuned, matmul="bfloat16")
    assert any(type(module) is FusedLinear for module in tuned.modules())
    loss, gradient = gradients(tuned, tree)
    assert gradient.ne(exact).any()
    assert loss == pytest.approx(exact_loss, rel=5e-3)
    assert torch.cosine_similarity(gradient, exact, dim=0) > 0.999
    choose_packing(model, "padded")
    model.set_attn_implementation("sdpa")
    other_loss, other = gradients(tuned, padded)
    assert other_loss == pytest.approx(loss, rel=1e-3)
    assert torch.linalg.norm(other - gradient) < 0.02 * torch.linalg.norm(gradient)
    fuse(tuned, matmul="float32")


def test_the_choice_leaves_the_model_as_it_was() -> None:
    model = load_model("tiny", seed=3)
    choose_packing(model, "tree")
    fuse(model)
    tokens, targets = rows(4)
    row = build_row(tokens, targets, share=True)
    required = [weight.requires_grad for weight in model.parameters()]
    with torch.no_grad():
        before = predict(model, row).nll
    choice = choose_matmul(model, row)
    assert choice.matmul == "float32" or choice.reason is None
    assert [weight.requires_grad for weight in model.parameters()] == required
    with torch.no_grad():
        assert torch.equal(predict(model, row).nll, before)


@needs_units
def test_a_format_that_computes_something_else_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock says that bfloat16 is twice as fast; a loss that differs by more than its rounding rules it out."""
    model = load_model("tiny", seed=3)
    choose_packing(model, "tree")
    fuse(model)
    clock = iter([at for repeat in range(9) for at in (4 * repeat, 4 * repeat + 2, 4 * repeat + 3, 4 * repeat + 4)])
    monkeypatch.setattr("kamerton.model.matmul_probe.perf_counter", lambda: next(clock))
    tokens, targets = rows(4)
    row = build_row(tokens, targets, share=True)
    chosen = choose_matmul(model, row)
    assert (chosen.matmul, chosen.speedup, chosen.reason) == ("bfloat16", 2.0, None)
    monkeypatch.setattr("kamerton.model.matmul_probe.LOSS_TOLERANCE", -1.0)
    clock = iter([at for repeat in range(9) for at in (4 * repeat, 4 * repeat + 2, 4 * repeat + 3, 4 * repeat + 4)])
    refused = choose_matmul(model, row)
    assert refused.matmul == "float32"
    assert "the loss differs by" in (refused.reason or "")


@needs_units
@pytest.mark.slow
def test_the_check_of_batch_layouts_compares_in_float32() -> None:
    """For the real model rounding to bfloat16 exceeds what the check allows: the tree would be given up for it."""
    model = load_model(compose_values(["model=smollm2"])["model"]["name"])
    fuse(model, matmul="bfloat16")
    assert choose_packing(model, "tree").packing == "tree"
