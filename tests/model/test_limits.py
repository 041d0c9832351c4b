"""The numbers of positions and tokens in a model's configuration."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import BloomConfig, GPT2Config, LlamaConfig, MistralConfig, OPTConfig, Qwen2Config

from kamerton.model.limits import limits_of, load_limits, positions_of

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512, "rope_theta": 1e4}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "original_max_position_embeddings": 1024,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "rope_theta": 1e4,
}


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        (GPT2Config(n_positions=128), 128),
        (OPTConfig(max_position_embeddings=96), 96),
        (LlamaConfig(max_position_embeddings=2048), 2048),
        (MistralConfig(max_position_embeddings=4096, sliding_window=256), 4096),
        (Qwen2Config(max_position_embeddings=512, rope_parameters=YARN), 2048),
        (Qwen2Config(max_position_embeddings=2048, rope_parameters=YARN), 2048),
        (LlamaConfig(max_position_embeddings=8192, rope_parameters=LLAMA3), 8192),
        (LlamaConfig(max_position_embeddings=512, rope_parameters={"rope_type": "linear", "factor": 2.0}), 1024),
        (BloomConfig(), None),
    ],
)
def test_positions(config: Any, positions: int | None) -> None:
    assert positions_of(config) == positions


def test_the_tiny_models_limits_are_those_of_its_weights() -> None:
    from kamerton.model.load import load_model

    model = load_model("tiny")
    assert load_limits("tiny") == limits_of(model.config)
    assert load_limits("tiny").tokens == model.get_input_embeddings().num_embeddings


def test_the_limits_come_from_the_model_folder(tmp_path: Any) -> None:
    GPT2Config(n_positions=128, vocab_size=300).save_pretrained(tmp_path)
    limits = load_limits(str(tmp_path))
    assert (limits.positions, limits.tokens) == (128, 300)
