"""Every kind of adapter is restored from its files, and from its checkpoint, as the trained model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from kamerton.data.encode.single_example import answer_ending
from kamerton.errors import UserError
from kamerton.model.adapter import apply_adapter, trainable_state
from kamerton.model.export import export
from kamerton.model.load import load_model
from kamerton.model.tiny import tiny_model, tiny_tokenizer

KINDS: dict[str, dict[str, Any]] = {
    "lora": {"kind": "lora"},
    "rslora": {"kind": "lora", "rslora": True},
    "dora": {"kind": "lora", "dora": True},
    "pissa": {"kind": "lora", "init": "pissa"},
    "fast pissa": {"kind": "lora", "init": "pissa_niter_16", "rslora": True, "dora": True},
    "with embedding": {"kind": "lora", "modules_to_save": ["embed_tokens"]},
    "full": {"kind": "full"},
    "frozen": {"kind": "full", "freeze": ["embed_tokens", "layers.0"]},
}
ADAPTERS = [name for name, options in KINDS.items() if options["kind"] == "lora"]


def logits(model: nn.Module) -> Tensor:
    with torch.inference_mode():
        result: Tensor = model.eval()(input_ids=torch.arange(3, 40)[None]).logits
    return result


def train_a_little(model: nn.Module) -> None:
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.5)
    for _ in range(3):
        ids = torch.arange(3, 40)[None]
        model.train()(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def new(name: str) -> nn.Module:
    torch.manual_seed(0)
    return apply_adapter(tiny_model(), r=4, **KINDS[name])


def trained(name: str) -> nn.Module:
    model = new(name)
    train_a_little(model)
    assert (logits(model) - logits(tiny_model())).abs().max() > 0.05  # else nothing below could fail
    return model


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_starts_as_its_base_model(name: str) -> None:
    torch.testing.assert_close(logits(new(name)), logits(tiny_model()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_the_merged_export_is_a_plain_model_that_scores_the_same(name: str, tmp_path: Path) -> None:
    model = trained(name)
    expected = logits(model)
    export(model, tiny_tokenizer(), tmp_path, ending=answer_ending(tiny_tokenizer()), merge=True)
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(tmp_path)), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-5)
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_adapter_export_scores_the_same_on_its_untouched_base(name: str, tmp_path: Path) -> None:
    model = trained(name)
    export(model, tiny_tokenizer(), tmp_path, ending=answer_ending(tiny_tokenizer()), merge=False)
    loaded = PeftModel.from_pretrained(tiny_model(), tmp_path)
    torch.testing.assert_close(logits(loaded), logits(model), rtol=1e-4, atol=1e-5)
    merged = loaded.merge_and_unload()
    torch.testing.assert_close(logits(merged), logits(model), rtol=1e-4, atol=1e-5)


def test_the_merged_export_is_what_a_gguf_converter_reads(tmp_path: Path) -> None:
    """llama.cpp's converter finds tensors through gguf's own map of names, and reads configuration and tokenizer."""
    export(trained("dora"), tiny_tokenizer(), tmp_path, ending=answer_ending(tiny_tokenizer()), merge=True)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert (tmp_path / "generation_config.json").exists()
    tensor_names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        names = list(file.keys())
        assert {file.get_tensor(name).dtype for name in names} == {torch.float32}
    result = {tensor_names.get_name(name, try_suffixes=(".weight", ".bias")) for name in names}
    assert None not in result
    assert len(result) == len(names) == 1 + 2 * 9 + 1
    special = gguf.SpecialVocab(tmp_path, load_merges=True)
    assert special.chat_template
    assert special.special_token_ids["eos"] == config["eos_token_id"]


def test_an_adapter_names_its_base_as_the_user_did_and_is_found_through_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    export(tiny_model(), tiny_tokenizer(), Path("base"), ending=answer_ending(tiny_tokenizer()), merge=False)
    model = apply_adapter(load_model("base"), kind="lora", r=4)
    train_a_little(model)
    export(model, tiny_tokenizer(), Path("tuned"), ending=answer_ending(tiny_tokenizer()), merge=False)
    assert json.loads(Path("tuned/adapter_config.json").read_text())["base_model_name_or_path"] == "base"
    assert not [path for path in Path("tuned").iterdir() if str(tmp_path) in path.read_bytes().decode(errors="ignore")]
    torch.testing.assert_close(logits(AutoPeftModelForCausalLM.from_pretrained("tuned")), logits(model))


@pytest.mark.parametrize("name", KINDS)
def test_a_checkpoint_restores_the_model_bit_for_bit(name: str) -> None:
    model, again = trained(name), new(name)
    assert not again.load_state_dict(trainable_state(model), strict=False).unexpected_keys
    assert torch.equal(logits(again), logits(model))


def test_a_pissa_checkpoint_brings_its_decomposition_along() -> None:
    """Another machine may decompose a weight otherwise: here another algorithm and other random numbers do."""
    model = trained("pissa")
    second = apply_adapter(tiny_model(), kind="lora", r=4, init="pissa_niter_16")
    mine, theirs = (dict(first.named_buffers()) for first in (model, second))
    assert not all(torch.equal(mine[name], theirs[name]) for name in mine if "pissa" in name)
    second.load_state_dict(trainable_state(model), strict=False)
    torch.testing.assert_close(logits(second), logits(model), rtol=1e-4, atol=1e-5)


def test_only_what_freeze_names_stays_as_it_was() -> None:
    model = apply_adapter(tiny_model(), kind="full", freeze=["embed_tokens", "layers.0-0", "layers.*.mlp"])
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    train_a_little(model)
    same = {name for name, weight in model.named_parameters() if torch.equal(weight, before[name])}
    assert same == {name for name in before if "embed" in name or "layers.0" in name or ".mlp." in name}
    assert trainable_state(model).keys() == before.keys() - same


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "full", "freeze": ["layers.7-9"]}, ["'layers.7-9'", "embed_tokens, layers.0-1, norm, lm_head"]),
        ({"kind": "full", "freeze": ["embed"]}, ["'embed'"]),
        ({"kind": "full", "freeze": ["model", "lm_head"]}, ["every weight is frozen"]),
        (
            {"kind": "lora", "targets": ["q_prj"], "modules_to_save": ["head"]},
            ["'q_prj'", "q_proj", "'head'", "lm_head"],
        ),
        ({"kind": "lora", "targets": "q_proj"}, ["'q_proj' matches no layer", "list of names"]),
    ],
)
def test_unknown_module_names_are_faults_that_list_the_valid_ones(options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        apply_adapter(tiny_model(), **options)
    assert all(part in str(error.value) for part in words)


def test_a_model_in_four_bits_trains_the_adapter_that_its_rounded_weights_would(tmp_path: Path) -> None:
    """On a CPU, bitsandbytes is correct only if the model was not evaluated before."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    model = apply_adapter(load_model("tiny", quantize=True), kind="qlora", r=4)
    rounded = tiny_model()
    for name, layer in model.get_base_model().named_modules():  # type: ignore[operator]
        if isinstance(layer, bitsandbytes.nn.Linear4bit):
            weight = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
            rounded.get_submodule(name.removesuffix(".base_layer")).weight.data = weight.float()
    other = apply_adapter(rounded, kind="lora", r=4)
    other.load_state_dict(trainable_state(model), strict=False)
    train_a_little(model)
    train_a_little(other)
    for name, weight in trainable_state(other).items():
        torch.testing.assert_close(trainable_state(model)[name], weight, rtol=1e-3, atol=1e-5)
    export(model, tiny_tokenizer(), tmp_path, ending=answer_ending(tiny_tokenizer()), merge=False)
    whole = PeftModel.from_pretrained(tiny_model(), tmp_path)
    assert 0 < (logits(whole) - logits(other)).norm() < 0.5 * (logits(whole) - logits(tiny_model())).norm()
