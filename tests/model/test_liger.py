"""The loss by Liger's kernel equals our own: losses, gradients, hits. Without a GPU Triton's interpreter runs it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from kamerton.model.adapter import apply_adapter
from kamerton.model.head import Head, find_head
from kamerton.model.liger import choose_loss, faster_loss, use_liger
from kamerton.model.loss import build_padded, plain_loss, predict
from support import families

pytest.importorskip("triton")
pytest.importorskip("liger_kernel")

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
SOFT_CAPPED = pytest.param("gemma2", marks=pytest.mark.skipif(not GPU, reason="the interpreter lacks CUDA's tanh"))
_draw = np.random.default_rng(1)
ROWS = [_draw.integers(3, 100, size).astype(np.int32) for size in (20, 7, 12)]
ROWS.append(ROWS[0][:15])
TARGETS = [np.arange(len(row)) >= 3 for row in ROWS]


def numbers(model: Any, smoothing: float = 0.0) -> list[torch.Tensor]:
    """Return nll, hits and gradients; every prediction has a different weight."""
    model.zero_grad()
    result = predict(model, build_padded(ROWS, TARGETS, pad=0).to(DEVICE), label_smoothing=smoothing)
    result.loss.square().sum().backward()
    gradients = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    return [result.nll.detach(), result.correct.float(), *gradients]


def assert_close(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for first, second in zip(actual, expected, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5 * float(second.abs().max()))


@pytest.mark.parametrize("family", ["llama", "cohere", "granite", SOFT_CAPPED])  # plain, scaled, divided
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_losses_and_gradients_are_those_of_the_plain_loss(family: str, kind: Any) -> None:
    model = apply_adapter(families.build(family), kind=kind, r=2).to(DEVICE)
    expected = numbers(model)
    use_liger(model)
    result = numbers(model)
    assert not torch.equal(result[0], expected[0])  # it was another kernel
    assert_close(result, expected)


def test_label_smoothing_stays_with_the_plain_loss() -> None:
    model = families.build("llama").to(DEVICE)
    expected = numbers(model, 0.1)
    use_liger(model)
    assert all(map(torch.equal, numbers(model, 0.1), expected))


def test_half_precision_is_that_of_autocast() -> None:
    model = families.build("llama").to(DEVICE)
    exact = numbers(model)[0]
    use_liger(model)
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        result = numbers(model)[0]
    assert result.dtype is torch.float32
    assert 0 < float((result - exact).abs().max()) < 0.2


def test_a_kernel_with_other_results_is_not_chosen() -> None:
    model = families.build("llama").to(DEVICE)
    head = find_head(model)
    assert head is not None
    choice = faster_loss(head, plain_loss, 6, trains_head=False, dtype=None)
    assert choice.reason is None

    def twice(head: Head, hidden: torch.Tensor, token: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        nll, correct = plain_loss(head, hidden, token)
        return 2 * nll, correct

    choice = faster_loss(head, twice, 6, trains_head=True, dtype=None)
    assert not choice.liger
    assert choice.reason is not None
    assert "differ" in choice.reason
    assert next(model.parameters()).requires_grad


def test_on_a_cpu_the_plain_loss_is_chosen() -> None:
    model = families.build("llama")
    choice = choose_loss(model, plain_loss, 6, trains_head=True, dtype=None)
    assert not choice.liger
    assert choice.reason is None
