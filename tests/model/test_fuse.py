"""Fused modules give the outputs and gradients of the original ones, or fall back to them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama

from kamerton.model.adapter import apply_adapter
from kamerton.model.fuse import fuse, unfuse
from kamerton.model.kernels import rotary, token_loss
from support import families

# What the kernels compute of each family; of the others at most a rotation.
LEAN = {name: {"RMSNorm", "MLP"} for name in ("llama", "mistral", "qwen2", "qwen3", "granite")} | {"cohere": {"MLP"}}


def model_of(family: str, kind: Any, **adapter: Any) -> nn.Module:
    torch.manual_seed(0)
    model = apply_adapter(families.build(family), kind=kind, r=4, **adapter)
    for name, weight in model.named_parameters():
        if "lora_B" in name or "norm" in name:  # a fresh adapter adds nothing, a fresh norm scales nothing
            nn.init.normal_(weight, mean=float("norm" in name), std=0.05)
    return model.train()


def loss_and_gradient(model: nn.Module) -> tuple[float, Tensor]:
    ids = torch.arange(42).view(3, 14) * 7 % 101
    loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    parts = [weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]
    return float(loss.detach()), torch.cat(parts)


@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize("family", families.FAMILIES)
def test_loss_and_gradient_are_those_of_the_own_modules(family: str, kind: str) -> None:
    plain = model_of(family, kind)
    fused = copy.deepcopy(plain)
    replaced = fuse(fused)
    parts = {part for part in ("RMSNorm", "MLP") if any(part in name for name in replaced)}
    assert parts == LEAN.get(family, set())
    loss, gradient = loss_and_gradient(plain)
    result, fused_gradient = loss_and_gradient(fused)
    assert result == pytest.approx(loss, rel=1e-6)
    assert torch.linalg.norm(fused_gradient - gradient) <= 1e-5 * torch.linalg.norm(gradient)


def test_fusing_a_model_does_not_affect_the_next_one() -> None:
    model = model_of("llama", "full")
    unfuse(model)
    own = modeling_llama.apply_rotary_pos_emb
    fuse(model_of("llama", "full"))
    assert modeling_llama.apply_rotary_pos_emb is not own
    unfuse(model)
    assert modeling_llama.apply_rotary_pos_emb is own


def test_the_gradient_of_a_tied_embedding_goes_into_that_of_the_head() -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    plain = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=101, tie_word_embeddings=True)).train()
    fused = copy.deepcopy(plain)
    assert "Embedding" in fuse(fused)
    for _ in range(2):  # the second time a gradient is there to be added to
        expected, result = (loss_and_gradient(model) for model in (plain, fused))
    assert result[0] == pytest.approx(expected[0], rel=1e-6)
    assert torch.linalg.norm(result[1] - expected[1]) <= 1e-5 * torch.linalg.norm(expected[1])
    assert fused.model.embed_tokens.weight.grad.layout is torch.strided


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_an_embedding_of_its_own_or_a_frozen_one_is_left_alone(kind: Any) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=101, tie_word_embeddings=kind == "lora"))
    assert "Embedding" not in fuse(apply_adapter(model, kind=kind, r=4))


def test_fusing_twice_changes_nothing_more() -> None:
    model = model_of("llama", "lora")
    fuse(model)
    classes = [type(module) for module in model.modules()]
    assert fuse(model) == []
    assert [type(module) for module in model.modules()] == classes


def test_the_rotation_has_the_gradient_of_its_definition() -> None:
    torch.manual_seed(0)
    query, key = (torch.randn(1, heads, 5, 8, dtype=torch.float64, requires_grad=True) for heads in (4, 2))
    angle = torch.randn(1, 1, 5, 8, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda q, k: rotary(q, k, angle.cos(), angle.sin()), (query, key))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_tokens_has_the_gradient_of_its_definition(smoothing: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    row, token = torch.tensor([2, 0, 2, 2]), torch.tensor([1, 4, 3, 1])  # a row may make several predictions
    assert torch.autograd.gradcheck(lambda states: token_loss(states, row, token, smoothing), (logits,))
    expected = nn.functional.cross_entropy(logits[row], token, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(token_loss(logits, row, token, smoothing)[1], expected)


def test_a_fused_layer_saves_less_for_the_backward_pass() -> None:
    def saved(model: Any) -> int:
        sizes: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        ids = torch.arange(60).view(1, 60)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model.get_base_model().model(input_ids=ids, use_cache=False)
        owned = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        return sum(size for pointer, size in sizes.items() if pointer not in owned)

    plain = model_of("llama", "lora")
    fused = copy.deepcopy(plain)
    fuse(fused)
    assert saved(fused) < 0.85 * saved(plain)


@pytest.mark.parametrize("case", ["dropout", "disabled", "merged", "autocast"])
def test_the_own_forward_runs_where_a_kernel_would_be_wrong(case: str) -> None:
    plain = model_of("llama", "lora", dropout=0.5 if case == "dropout" else 0.0)
    fused = copy.deepcopy(plain)
    fuse(fused)
    ids = torch.arange(12).view(1, 12)

    def logits(model: Any) -> Tensor:
        torch.manual_seed(1)
        if case == "merged":
            model.merge_adapter()
        if case == "disabled":
            with model.disable_adapter():
                return model(input_ids=ids).logits  # type: ignore[no-any-return]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=case == "autocast"):
            return model(input_ids=ids).logits  # type: ignore[no-any-return]

    torch.testing.assert_close(logits(fused), logits(plain), rtol=1e-5, atol=1e-5)


def test_a_layer_with_a_similar_name_is_unchanged() -> None:
    class OddRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.variance_epsilon = nn.Parameter(torch.ones(8)), 1e-6

        def forward(self, x: Tensor) -> Tensor:
            return x / (x.abs().mean(-1, keepdim=True) + self.variance_epsilon) * (1 + self.weight)

    model = nn.Sequential(OddRMSNorm())
    assert fuse(model) == []
    assert type(model[0]) is OddRMSNorm
