"""Nothing that frameworks print while models are converted, loaded and saved reaches the terminal."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path

import gguf
import numpy as np
import pytest
from tqdm.auto import tqdm

from kamerton.model.load import convert_gguf, load_model, load_tokenizer
from kamerton.quiet import quiet, quiet_frameworks

TOKENS = ["<|end|>", *"abcdefgh", "ab"]
WIDTH, HIDDEN = 16, 24


def small_gguf(file: Path) -> Path:
    """A llama of one layer with random weights and a tokenizer of a few letters, as llama.cpp stores it."""
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(TOKENS)
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (len(TOKENS) - 1))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    draw = np.random.default_rng(0)
    shapes = {"token_embd": (len(TOKENS), WIDTH), "output_norm": (WIDTH,)}
    shapes |= {f"blk.0.{name}_norm": (WIDTH,) for name in ("attn", "ffn")}
    shapes |= {f"blk.0.attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
    shapes |= {"blk.0.ffn_gate": (HIDDEN, WIDTH), "blk.0.ffn_up": (HIDDEN, WIDTH), "blk.0.ffn_down": (WIDTH, HIDDEN)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", draw.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_converting_loading_and_saving_a_model_prints_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAMERTON_CACHE", str(tmp_path / "cache"))
    file = small_gguf(tmp_path / "small.gguf")
    capfd.readouterr()
    folder = convert_gguf(file)
    load_model(str(folder))
    load_tokenizer(str(folder))
    assert capfd.readouterr() == ("", "")


def test_bars_and_warnings_come_back_after_a_quiet_part(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet():
        list(tqdm(range(3)))
        logging.getLogger("transformers").warning("unheard")
    assert capfd.readouterr().err == ""
    list(tqdm(range(3)))
    assert "3/3" in capfd.readouterr().err


def test_a_command_quiets_frameworks_for_itself_and_what_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRANSFORMERS_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "")  # so that it is as it was after the test
        monkeypatch.delenv(name)
    logger = logging.getLogger("transformers")
    level = logger.level
    try:
        with warnings.catch_warnings():
            quiet_frameworks()
            assert (os.environ["TRANSFORMERS_VERBOSITY"], os.environ["HF_HUB_DISABLE_PROGRESS_BARS"]) == ("error", "1")
            assert logger.level == logging.ERROR
            logger.setLevel(logging.INFO)
            os.environ["TRANSFORMERS_VERBOSITY"] = "info"  # the user's own wish
            quiet_frameworks()
            assert logger.level == logging.INFO
    finally:
        logger.setLevel(level)
