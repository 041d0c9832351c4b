"""Every family, every cut: the same loss of every token and the same gradient; what cannot be packed is padded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from kamerton.errors import UserError
from kamerton.model.attention import ATTENTION, flex_tree, register_attention, tree_attention
from kamerton.model.capabilities import check_loss, choose_packing
from kamerton.model.loss import PaddedRows, Predictions, build_padded, predict
from kamerton.model.tree import TreeRow, build_row
from support import families

# Own parts longer than a block of the tree (128) and than every sliding window, beside equal and contained rows.
_SIZES = [(40, 150), (40, 30), (12, 5), (0, 25), (40, 1), (40, 30), (30, 60)]
_draw = np.random.default_rng(0)
_PREFIX = _draw.integers(3, 100, 40)
ROWS = [np.concatenate([_PREFIX[:shared], _draw.integers(3, 100, own)]).astype(np.int32) for shared, own in _SIZES]
TARGETS = [np.arange(len(row)) >= max(1, len(row) // 3) for row in ROWS]


def by_token(result: Predictions) -> torch.Tensor:
    return result.nll[torch.argsort(result.sequence, stable=True)]


def loss_and_gradient(model: Any, batch: TreeRow | PaddedRows) -> tuple[torch.Tensor, torch.Tensor]:
    model.zero_grad()
    result = predict(model, batch)
    result.nll.sum().backward()
    gradient = [weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]
    return by_token(result).detach(), torch.cat(gradient).clone()


@pytest.mark.parametrize("family", families.FAMILIES)
def test_every_cut_gives_each_token_the_same_loss_and_the_same_gradient(family: str) -> None:
    model = families.build(family)
    expected, reference = loss_and_gradient(model, build_padded(ROWS, TARGETS, pad=0))
    assert choose_packing(model, "tree").packing == "tree"
    for share in (True, False):
        result, gradient = loss_and_gradient(model, build_row(ROWS, TARGETS, share=share))
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)
        assert torch.linalg.norm(gradient - reference) <= 1e-5 * torch.linalg.norm(reference)


@pytest.mark.parametrize("family", families.OTHERS)
def test_a_model_without_tree_attention_is_padded_and_unchanged(family: str) -> None:
    model = families.build(family).eval()
    rows = build_padded(ROWS, TARGETS, pad=0)
    with torch.no_grad():
        before = predict(model, rows).nll
        usable = choose_packing(model, "tree")
        assert usable.packing == "padded"
        assert type(model).__name__ in str(usable.reason)
        assert torch.equal(predict(model, rows).nll, before)


@pytest.mark.parametrize(("family", "changes"), [("llama", {"attention_dropout": 0.1}), ("gpt2", {"resid_pdrop": 0.1})])
def test_with_dropout_no_prefix_is_shared(family: str, changes: dict[str, float]) -> None:
    model = families.build(family, **changes).train()
    state = torch.get_rng_state()
    assert choose_packing(model, "tree").packing == "packed"
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert choose_packing(families.build(family), "tree", dropout=0.1).packing == "packed"
    assert choose_packing(families.build(family), "tree").packing == "tree"


@pytest.mark.parametrize("family", [*families.FAMILIES, *families.OTHERS])
def test_the_loss_is_the_models_own(family: str) -> None:
    check_loss(families.build(family))


def test_a_model_with_another_objective_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    model = families.build("llama")
    plain = type(model).forward

    def with_penalty(self: Any, *arguments: Any, **options: Any) -> Any:
        output = plain(self, *arguments, **options)
        output.loss = None if output.loss is None else output.loss + 0.1 * output.logits.square().mean()
        return output

    monkeypatch.setattr(type(model), "forward", with_penalty)
    with pytest.raises(UserError, match="the loss of LlamaForCausalLM"):
        check_loss(model)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("window", [None, 5, 40, 1000])
@pytest.mark.parametrize("softcap", [None, 0.5])
def test_the_kernel_for_gpus_says_the_same_as_the_blocks(window: int | None, softcap: float | None) -> None:
    tree = build_row(ROWS, TARGETS, share=True).tree
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, len(tree.reach), 8) for heads in (4, 2, 2))
    blocks, _ = tree_attention(
        torch.nn.Module(), query, key, value, None, scaling=0.4, tree=tree, sliding_window=window, softcap=softcap
    )
    flexible = flex_tree(query, key, value, tree, window, 0.4, softcap)
    torch.testing.assert_close(flexible.transpose(1, 2), blocks, rtol=1e-5, atol=1e-5)


def test_tree_attention_without_a_tree_is_an_error_not_a_wrong_number() -> None:
    register_attention()
    model = families.build("llama")
    model.set_attn_implementation(ATTENTION)
    with pytest.raises(RuntimeError, match="without a tree"):
        model(input_ids=torch.tensor([[3, 4, 5]]))
