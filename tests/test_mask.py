"""No secret gets through, and nothing harmless is hidden."""

from __future__ import annotations

from typing import Any

import pytest

from kamerton.mask import MASK, is_secret, mask_text, masked


@pytest.mark.parametrize(
    "key",
    ["api_key", "apiKey", "OPENAI_API_KEY", "hub.token", "hf_token", "token", "password", "dbPassword", "Authorization",
     "client_secret", "aws_secret_access_key", "private_key", "pwd", "credentials"],
)  # fmt: skip
def test_secret_keys_are_known(key: str) -> None:
    assert is_secret(key)
    assert masked({key: "s3cr3t"}) == {key: MASK}


@pytest.mark.parametrize(
    "key",
    ["max_tokens", "tokens", "tokenizer", "pad_token", "eos_token", "token_accuracy", "key", "keys", "tokens_per_s",
     "monitor", "author", "batch.max_tokens"],
)  # fmt: skip
def test_terms_of_the_field_are_not_secrets(key: str) -> None:
    assert not is_secret(key)
    assert masked({key: "value"}) == {key: "value"}


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("logger.wandb.api_key=abc123def", "abc123def"),
        ("+hub.token='a b c'", "a b c"),
        ("storage=postgresql://ann:hunter2@db.example/optuna", "hunter2"),
        ("storage=postgresql://ann:hun/ter2@db.example/optuna", "ter2"),
        ("git clone https://ann:hunter2@example.org/a.git", "hunter2"),
        ("data.path=https://abc123def@example.org/a.jsonl", "abc123def"),
        ("data.path=https://example.org/a.jsonl?alt=media&key=abc123def", "abc123def"),
        ("data.path=https://b.s3.example.org/a.jsonl?X-Amz-Date=1&X-Amz-Signature=abc123def", "abc123def"),
        ("data.path=https://b.blob.example.org/a.jsonl?sv=2024&sig=abc%2F123def", "abc%2F123def"),
        ("headers={Authorization: Bearer abcdefgh12345}", "abcdefgh12345"),
        ("the request with Bearer abcdefgh12345 failed", "abcdefgh12345"),
        ("cannot log in with hf_abcdefghijkl", "hf_abcdefghijkl"),
        ("model={name: x, api_key: qwertyuiop}", "qwertyuiop"),
        ("login failed: api_key=abc123def", "abc123def"),
    ],
)
def test_secrets_in_texts_are_replaced(text: str, secret: str) -> None:
    assert secret not in mask_text(text)
    assert MASK in mask_text(text)


@pytest.mark.parametrize(
    "text",
    ["optimizer.lr=0.001", "batch.max_tokens=2048", "data.path=https://example.org/a.csv", "step 3: loss 2.1",
     "https://localhost:8080/team/a@b.csv", "seed=1,2,3", "The file a@b.csv, row 3: no prompt"],
)  # fmt: skip
def test_other_texts_are_unchanged(text: str) -> None:
    assert mask_text(text) == text


def test_nested_values_are_masked_and_absent_secrets_shown() -> None:
    config = {"a": [{"password": 1234, "name": "x"}], "token": None, "b": {"secret": True}, "api_key": ["k1", "k2"]}
    assert masked(config) == {
        "a": [{"password": MASK, "name": "x"}],
        "token": None,
        "b": {"secret": True},
        "api_key": [MASK, MASK],
    }


def test_counts_of_labels_that_sound_secret_stay_in_prose() -> None:
    labels: dict[str, Any] = {"reset_password": 12, "token": 3}
    assert masked(labels, prose=True) == labels
