"""Exported models give the run's greedy answers in plain transformers and peft."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import AutoPeftModelForCausalLM
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast

from kamerton.data.encode.single_example import answer_ending, renderer
from kamerton.model.adapter import apply_adapter
from kamerton.model.ends import end_tokens
from kamerton.model.export import export
from kamerton.model.load import load_model, load_tokenizer, local_base
from kamerton.run.adapters import base_of_adapter
from kamerton.score.generate.batched import Prompt, generate, plan_batches
from kamerton.score.generate.sampling import Decoding
from support.families import FAMILIES, build

QUESTIONS = ["where?", "who was it", "7 x 8", "say a word", "why, and for how long?", "x"]
SIZE = 24

# As the families' own templates, in small: the first two special tokens are the tokenizer's eos and the end of a turn.
TEMPLATES = {
    "chatml": (
        ["<|endoftext|>", "<|im_end|>", "<|im_start|>"],
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    ),
    "llama3": (
        ["<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"],
        "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}<|eot_id|>"
        "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    ),
    "gemma": (
        ["<eos>", "<end_of_turn>", "<start_of_turn>"],
        "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content }}"
        "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    ),
    "mistral": (
        ["</s>", "[INST]", "[/INST]"],
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %}{{ m.content }}</s>"
        "{% endif %}{% endfor %}",
    ),
    "none": (["</s>"], None),
}
OF_FAMILY = {
    "llama": "llama3",
    "gemma": "gemma",
    "gemma2": "gemma",
    "gemma3_text": "gemma",
    "mistral": "mistral",
    "gpt2": "none",
}


def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    """A byte tokenizer with the kind's special tokens and template; like many, it has no token for padding."""
    special, template = TEMPLATES[kind]
    vocabulary = {token: i for i, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=special[0],
        additional_special_tokens=special[1:],
        chat_template=template,
    )


def base_model(folder: Path, family: str, kind: str) -> Path:
    """A random model in a folder, whose own settings know the tokenizer's eos alone."""
    tokenizer = tokenizer_of(kind)
    model = build(family, vocab_size=len(tokenizer), eos_token_id=0, bos_token_id=None, pad_token_id=None)
    model.generation_config = GenerationConfig(eos_token_id=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def train_to_end(model: Any, tokenizer: Any) -> None:
    """Some steps on short answers with their end of turn, so that answers end early."""
    rows = [renderer(tokenizer)(question, "ok " + question[0]) for question in QUESTIONS[:3]]
    longest = max(len(before) + len(after) for before, after in rows)
    tokens, labels = torch.zeros(2, len(rows), longest, dtype=torch.long)
    labels -= 100
    for i, (before, after) in enumerate(rows):
        tokens[i, : len(before) + len(after)] = torch.tensor([*before, *after])
        labels[i, len(before) : len(before) + len(after)] = torch.tensor(after)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=0.01)
    for _ in range(40):
        model(input_ids=tokens, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def own_answers(model: Any, tokenizer: Any, prompts: list[list[int]]) -> list[list[int]]:
    """The answers that a run of this model and tokenizer generates and scores."""
    inputs = [Prompt(str(i), np.array(tokens, dtype=np.int32)) for i, tokens in enumerate(prompts)]
    ends = end_tokens(model, tokenizer, renderer(tokenizer)("question", "answer")[1])
    decoding = Decoding(SIZE)
    result: dict[int, Any] = {}
    for part in generate(
        model, inputs, plan_batches(model, inputs, decoding, 1000), decoding, ends=ends, pad=tokenizer.pad_token_id
    ):
        result |= part
    return [list(result[i].tokens) for i in range(len(inputs))]


def plain_answers(model: Any, folder: Path, prompts: list[list[int]]) -> list[list[int]]:
    """What `generate` of plain transformers answers, without the token that ended the answer."""
    special = AutoTokenizer.from_pretrained(folder).all_special_ids
    answers = []
    for tokens in prompts:
        with torch.inference_mode():
            row = model.generate(input_ids=torch.tensor([tokens]), max_new_tokens=SIZE, do_sample=False)[0].tolist()
        answer = row[len(tokens) :]
        answers.append(answer[:-1] if answer[-1] in special and len(answer) <= SIZE else answer)
    return answers


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_plain_transformers_and_peft_give_the_runs_own_greedy_answers(family: str, tmp_path: Path) -> None:
    folder = base_model(tmp_path / "base", family, OF_FAMILY.get(family, "chatml"))
    tokenizer = load_tokenizer(str(folder))
    model = apply_adapter(load_model(str(folder)), kind="lora", r=8)
    train_to_end(model, tokenizer)
    prompts = [renderer(tokenizer)(question, "")[0] for question in QUESTIONS]
    expected = own_answers(model, tokenizer, prompts)
    assert any(len(answer) < SIZE for answer in expected)  # some end, so that a missed end shows
    export(model, tokenizer, tmp_path / "merged", ending=answer_ending(tokenizer), merge=True)
    export(model, tokenizer, tmp_path / "adapter", ending=answer_ending(tokenizer), merge=False)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert plain_answers(plain, tmp_path / "merged", prompts) == expected
    with_adapter = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").eval()
    with_adapter.generation_config = GenerationConfig.from_pretrained(tmp_path / "adapter")  # as in its README
    assert plain_answers(with_adapter, tmp_path / "adapter", prompts) == expected


def test_settings_of_generating_keep_what_the_model_had(tmp_path: Path) -> None:
    """Published models have settings that transformers refuses to save once one of them is changed."""
    base_model(tmp_path / "base", "llama", "llama3")
    odd = {"eos_token_id": [0, 7], "temperature": 0.6, "do_sample": False, "max_new_tokens": 99}
    (tmp_path / "base" / "generation_config.json").write_text(json.dumps(odd))
    tokenizer = load_tokenizer(str(tmp_path / "base"))
    for name, model in (
        ("whole", load_model(str(tmp_path / "base"))),
        ("adapter", apply_adapter(load_model(str(tmp_path / "base")), kind="lora", r=4)),
    ):
        export(model, tokenizer, tmp_path / name, ending=answer_ending(tokenizer), merge=False)
        settings = json.loads((tmp_path / name / "generation_config.json").read_text())
        assert settings["eos_token_id"] == [0, 1, 7]  # the tokenizer's, the template's end of turn, the model's own
        assert settings["pad_token_id"] == tokenizer.pad_token_id
        assert "_from_model_config" not in settings
        assert (settings["max_new_tokens"], settings["temperature"]) == (99, 0.6)


def readme_code(folder: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("merge", [True, False])
def test_the_readme_of_an_export_loads_and_answers_as_it_stands(
    merge: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAMERTON_CACHE", str(tmp_path / "cache"))
    tokenizer, model = load_tokenizer("tiny"), apply_adapter(load_model("tiny", seed=3), kind="lora", r=8)
    train_to_end(model, tokenizer)
    export(
        model, tokenizer, tmp_path / "model", ending=answer_ending(tokenizer), merge=merge, base=local_base("tiny", 3)
    )
    monkeypatch.chdir(tmp_path / "model")
    names: dict[str, Any] = {}
    for block in readme_code(Path(".")):
        exec(block, names)
    prompt = renderer(tokenizer)("Where is the source of the Danube?", "")[0]
    assert names["prompt"]["input_ids"].tolist() == [prompt]
    assert names["tokens"][0].tolist()[: len(prompt)] == prompt
    (expected,) = own_answers(model, tokenizer, [prompt])
    assert capsys.readouterr().out.startswith(tokenizer.decode(expected[:8], skip_special_tokens=True))
    if not merge:  # the last block wrote a complete model
        again = AutoModelForCausalLM.from_pretrained("merged")
        assert torch.allclose(again(torch.tensor([prompt])).logits, model(torch.tensor([prompt])).logits, atol=1e-4)


def test_an_adapter_of_an_embedded_base_is_found_by_kamerton_when_the_cache_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAMERTON_CACHE", str(tmp_path / "cache"))
    model = apply_adapter(load_model("tiny", seed=3), kind="lora", r=4)
    tokenizer = load_tokenizer("tiny")
    ending = answer_ending(tokenizer)
    export(model, tokenizer, tmp_path / "model", ending=ending, merge=False, base=local_base("tiny", 3))
    config = tmp_path / "model" / "adapter_config.json"
    assert base_of_adapter(config) == str(tmp_path / "cache" / "models" / "tiny-3")
    monkeypatch.setenv("KAMERTON_CACHE", str(tmp_path / "other"))
    (tmp_path / "cache").rename(tmp_path / "gone")
    assert base_of_adapter(config) == "tiny"


def test_saving_and_loading_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    base_model(tmp_path / "base", "llama", "chatml")
    capfd.readouterr()  # transformers' own bars
    model, tokenizer = load_model(str(tmp_path / "base")), load_tokenizer(str(tmp_path / "base"))
    export(model, tokenizer, tmp_path / "again", ending=answer_ending(tokenizer), merge=False)
    assert capfd.readouterr() == ("", "")
