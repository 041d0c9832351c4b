"""What a model is fed fits it: positions and embedding are read off its configuration, without its weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import GPT2Config, LlamaConfig, PretrainedConfig

from kamerton.config.model_options import ModelOptions
from kamerton.data.inputs import load_inputs
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.errors import UserError
from kamerton.model.tiny import tiny_tokenizer
from support.rows import pairs, write_jsonl

SHAPES: dict[str, Callable[..., PretrainedConfig]] = {
    "learned": lambda positions, tokens: GPT2Config(n_positions=positions, vocab_size=tokens),
    "rotary": lambda positions, tokens: LlamaConfig(max_position_embeddings=positions, vocab_size=tokens),
}


@pytest.fixture(params=SHAPES)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., ModelOptions]:
    """`model(positions, tokens)`: a folder with a configuration and the tiny model's tokenizer, without weights."""

    def make(positions: int, tokens: int, *, added: str | None = None) -> ModelOptions:
        tokenizer = tiny_tokenizer()
        if added is not None:
            tokenizer.add_special_tokens({"pad_token": added})
        for part in (SHAPES[request.param](positions, tokens), tokenizer):
            part.save_pretrained(tmp_path / "model")
        return ModelOptions(name=str(tmp_path / "model"))

    return make


def faults(rows: list[dict[str, str]], model: ModelOptions, folder: Path, **options: object) -> list[tuple[str, str]]:
    data = DataOptions(path=str(write_jsonl(folder / "rows.jsonl", rows)), **options)  # type: ignore[arg-type]
    with pytest.raises(UserError) as caught:
        load_inputs(data, SplitOptions(), model)
    return [(fault.code, fault.message) for fault in caught.value.faults if fault.severity == "error"]


def test_rows_beyond_the_positions_of_all_splits_are_one_fault(
    model: Callable[..., ModelOptions], tmp_path: Path
) -> None:
    rows = [row | {"prompt": row["prompt"] + " and so on" * (i % 2 * 10)} for i, row in enumerate(pairs(80))]
    ((code, message),) = faults(rows, model(128, 259), tmp_path, max_length=4096)
    assert code == "too-long"
    assert message.startswith("40 of 80 rows have more tokens than the model's positions (128)")
    data = DataOptions(path=str(tmp_path / "rows.jsonl"), max_length=4096, overlong="truncate")
    encoded = load_inputs(data, SplitOptions(), model(128, 259)).encoded
    assert {int(part.lengths.max()) for part in encoded.values()} == {128}
    assert load_inputs(data, SplitOptions(), model(1024, 259)).encoded["train"].lengths.max() > 128


def test_a_tokenizer_longer_than_the_embedding_is_a_fault(model: Callable[..., ModelOptions], tmp_path: Path) -> None:
    ((code, message),) = faults(pairs(80), model(1024, 200), tmp_path)
    assert code == "unknown-token"
    assert message.startswith(
        "the tokenizer has 259 tokens and the model's embedding 200 rows: 80 rows contain such tokens"
    )
    ((code, message),) = faults(pairs(80), model(1024, 259, added="<pad>"), tmp_path)
    assert code == "unknown-token"
    assert "its pad token '<pad>' is 259" in message
