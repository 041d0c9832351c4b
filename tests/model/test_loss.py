"""The chunked loss: the same values and gradients as unchunked, without all logits in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import kamerton.model.loss as lean
from kamerton.model.adapter import apply_adapter
from kamerton.model.capabilities import choose_packing
from kamerton.model.head import find_head
from kamerton.model.loss import PaddedRows, build_padded, predict
from kamerton.model.tree import TreeRow, build_row
from support import families

_draw = np.random.default_rng(1)
ROWS = [_draw.integers(3, 100, size).astype(np.int32) for size in (40, 7, 25, 40)]
ROWS.append(ROWS[0][:30])
TARGETS = [np.arange(len(row)) >= 3 for row in ROWS]


class Largest(TorchDispatchMode):
    """The most elements that any tensor had, forward and backward."""

    elements = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            self.elements = max(self.elements, tensor.numel() if isinstance(tensor, torch.Tensor) else 0)
        return result


def loss_and_gradients(model: Any, batch: TreeRow | PaddedRows, smoothing: float) -> list[torch.Tensor]:
    model.zero_grad()
    result = predict(model, batch, label_smoothing=smoothing)
    result.loss.square().sum().backward()  # every prediction has a different weight
    gradients = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    return [result.nll.detach(), result.loss.detach(), result.correct.float(), *gradients]


@pytest.mark.parametrize("family", families.FAMILIES)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_chunked_equals_whole(family: str, smoothing: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model = families.build(family)
    assert find_head(model) is not None
    for packing in ("padded", "tree"):
        choose_packing(model, packing)  # type: ignore[arg-type]
        padded = packing == "padded"
        batch = build_padded(ROWS, TARGETS, pad=0) if padded else build_row(ROWS, TARGETS, share=True)
        whole = loss_and_gradients(model, batch, smoothing)
        with monkeypatch.context() as patch:
            patch.setattr(lean, "LOGITS", 101 * 9)
            chunked = loss_and_gradients(model, batch, smoothing)
        for result, expected in zip(chunked, whole, strict=True):
            torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("targets", [50, 400])
def test_no_tensor_grows_with_targets_times_vocabulary(targets: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary, chunk = 5000, 5000 * 16
    model = families.build("llama", vocab_size=vocabulary)
    choose_packing(model, "tree")
    row = _draw.integers(3, 100, targets + 1).astype(np.int32)
    batch = build_row([row], [np.arange(len(row)) >= 1], share=True)
    monkeypatch.setattr(lean, "LOGITS", chunk)
    with Largest() as seen:
        predict(model, batch).nll.sum().backward()
    assert seen.elements <= max(chunk, vocabulary * 32)  # a chunk, or the head's own weights


def test_a_frozen_head_gets_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "LOGITS", 101 * 9)
    model = apply_adapter(families.build("llama"), kind="lora", r=2)
    choose_packing(model, "tree")
    predict(model, build_row(ROWS, TARGETS, share=True)).nll.sum().backward()
    trained = [name for name, weight in model.named_parameters() if weight.grad is not None]
    assert trained
    assert all("lora" in name for name in trained)


def test_an_unusual_head_runs_unmodified(monkeypatch: pytest.MonkeyPatch) -> None:
    model = families.build("llama").eval()
    plain = type(model).forward

    def with_bias(self: Any, *arguments: Any, **options: Any) -> Any:
        output = plain(self, *arguments, **options)
        output.logits = output.logits + torch.arange(101) / 50
        return output

    monkeypatch.setattr(type(model), "forward", with_bias)
    assert find_head(model) is None
    batch = build_padded(ROWS, TARGETS, pad=0)
    with torch.no_grad():
        whole = predict(model, batch).nll
        monkeypatch.setattr(lean, "LOGITS", 101 * 9)
        assert torch.equal(predict(model, batch).nll, whole)
