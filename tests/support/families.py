"""Tiny random models of the families that people fine-tune, built from transformers' own configurations."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

_SIZES = {
    "vocab_size": 101,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
_LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]

# Everything that the tree can say.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"use_sliding_window": True, "sliding_window": 7, "layer_types": _LAYERS},
    "qwen3": {},
    "gemma": {},
    "gemma2": {"sliding_window": 6, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    "gemma3_text": {"sliding_window": 6, "layer_types": _LAYERS, "final_logit_softcapping": 3.0},
    "gpt2": {
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 512,
        "resid_pdrop": 0,
        "embd_pdrop": 0,
        "attn_pdrop": 0,
    },
    "mistral": {"sliding_window": 9},
    "cohere": {"logit_scale": 0.25},
    "granite": {"logits_scaling": 4.0, "attention_multiplier": 0.3},
}
# Attention that is not a tree's: biases by distance, recurrences, chunks, sinks.
OTHERS: dict[str, dict[str, Any]] = {
    "bloom": {"n_layer": 2, "n_head": 4},
    "mamba": {"state_size": 4, "num_hidden_layers": 2},
    "gpt_oss": {"sliding_window": 6, "layer_types": _LAYERS, "num_local_experts": 2, "num_experts_per_tok": 1},
    "llama4_text": {
        "attention_chunk_size": 16,
        "num_local_experts": 1,
        "interleave_moe_layer_step": 9,
        "no_rope_layers": [1, 1, 1],
    },
}


def build(family: str, **changes: Any) -> Any:
    """A random model with large enough weights that a wrong attention shows."""
    options = {**_SIZES, **{**FAMILIES, **OTHERS}[family], **changes}
    if family in ("gpt2", "bloom", "mamba"):
        options = {key: value for key, value in options.items() if key not in ("head_dim", "num_key_value_heads")}
    config = CONFIG_MAPPING[family](**options, initializer_range=0.2, dtype="float32")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)
