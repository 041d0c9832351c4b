"""Gradients computed in place equal those accumulated by autograd."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from kamerton.model.fuse import fuse
from kamerton.model.gradients import add_in_place, leave_to_autograd, weight_gradient
from kamerton.model.switches import checkpoint_layers
from support import families

PASSES = [torch.arange(first, first + 28).view(2, 14) * 7 % 101 for first in (0, 3, 50)]


def matrices(model: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in model.parameters() if weight.ndim == 2]


def gradient(model: nn.Module, passes: list[Tensor]) -> Tensor:
    """Of a step of some passes."""
    model.zero_grad()
    for ids in passes:
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", families.FAMILIES)
def test_steps_of_any_passes_have_the_gradient_of_the_own_modules(family: str, checkpointing: bool) -> None:
    torch.manual_seed(0)
    plain = families.build(family).train()
    kept = copy.deepcopy(plain)
    fuse(kept)
    if checkpointing:
        checkpoint_layers(kept)
    add_in_place(matrices(kept))
    for passes in (PASSES, PASSES[:1], PASSES[1:]):  # no step has anything of the one before
        expected = gradient(plain, passes)
        assert torch.linalg.norm(gradient(kept, passes) - expected) <= 1e-5 * torch.linalg.norm(expected)


def test_weights_can_be_left_to_autograd_again() -> None:
    weight, grad, x = nn.Parameter(torch.zeros(3, 2)), torch.ones(4, 3), torch.ones(4, 2)
    add_in_place([weight])
    assert weight_gradient(weight, grad, x) is None
    assert weight.grad is not None
    leave_to_autograd([weight])
    torch.testing.assert_close(weight_gradient(weight, grad, x), torch.full((3, 2), 4.0))
    torch.testing.assert_close(weight.grad, torch.full((3, 2), 4.0))  # as it was
