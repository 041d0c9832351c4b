"""Tokens and dollars, before anything is sent."""

from __future__ import annotations

import pytest
import tiktoken

from kamerton.data.example import DataExample, Message
from kamerton.endpoint import OPENAI
from kamerton.hosted.cost import Price, count_tokens, estimate, find_price, over_limit, shown, too_long

BYTES = tiktoken.Encoding(  # a real encoding, of single bytes, that needs no download
    "bytes", pat_str=r"[\s\S]", mergeable_ranks={bytes([byte]): byte for byte in range(256)}, special_tokens={}
).encode_ordinary
ROWS = [DataExample("cat", "yes"), DataExample("cat and dog", "no")]


def test_tokens_are_those_of_the_encoding_and_of_the_chat_format() -> None:
    # 3 for each turn, its role and its text, 3 for the reply
    assert count_tokens(ROWS[0].messages, BYTES) == (3 + 4 + 3) + (3 + 9 + 3) + 3
    assert count_tokens(ROWS[0].messages, None) == (3 + 1 + 1) + (3 + 3 + 1) + 3  # a quarter of the bytes, rounded up


def test_training_is_paid_for_each_epoch_and_answers_up_to_their_limit() -> None:
    result = estimate(ROWS, ROWS, BYTES, Price(8.0, 3.0, 6.0), epochs=3, models=2, answer=10)
    assert result.training_tokens == sum(count_tokens(row.messages, BYTES) for row in ROWS)
    assert result.training == pytest.approx(result.training_tokens * 3 * 8e-6)
    prompt_tokens = sum(count_tokens(row.messages[:1], BYTES) for row in ROWS)
    assert (result.input_tokens, result.output_tokens) == (2 * prompt_tokens, 2 * 2 * 10)
    assert result.total == pytest.approx(result.training_tokens * 24e-6 + 2 * prompt_tokens * 3e-6 + 40 * 6e-6)


@pytest.mark.parametrize(
    ("url", "model", "training"),
    [
        (OPENAI, "gpt-3.5-turbo", 8.0),
        (OPENAI, "gpt-3.5-turbo-0125", 8.0),
        (OPENAI, "gpt-4o-mini-2024-07-18", 3.0),
        (OPENAI, "ft:gpt-4o-mini-2024-07-18:me::x", 3.0),
        (OPENAI, "gpt-4o-audio-preview", None),
        (OPENAI, "gpt-99", None),
        ("http://127.0.0.1/v1", "gpt-3.5-turbo", None),
    ],
)
def test_an_unknown_price_is_not_guessed(url: str, model: str, training: float | None) -> None:
    assert find_price(url, model, Price()).training == training
    assert find_price(url, model, Price(training=7.0)).training == 7.0


def test_nothing_is_sent_above_the_cost_limit_or_at_an_unknown_price() -> None:
    exact = estimate(ROWS, [], BYTES, Price(1e6), epochs=1, models=1, answer=1)  # a dollar a token
    assert exact.total is not None
    assert over_limit(exact, None) is None
    assert over_limit(exact, exact.total) is None
    fault = over_limit(exact, exact.total - 1)
    assert fault is not None
    assert fault.code == "hosted.cost"
    rough = estimate(ROWS, [], None, Price(1e6), epochs=1, models=1, answer=1)
    assert rough.total is not None
    assert over_limit(rough, 1.9 * rough.total) is not None  # a rough count is doubled
    assert over_limit(rough, 2 * rough.total) is None
    unknown = over_limit(estimate(ROWS, [], BYTES, Price(), epochs=1, models=1, answer=1), 100.0)
    assert unknown is not None
    assert unknown.code == "hosted.price"


def test_what_the_endpoint_would_cut_is_a_fault() -> None:
    long = DataExample((Message("user", "x" * 17_000),), "y")
    exact, rough = too_long([*ROWS, long], "gpt-3.5-turbo", BYTES), too_long([long] * 5, "gpt-3.5-turbo", None)
    assert exact is not None
    assert (exact.severity, long.id in exact.message) == ("error", True)
    assert rough is None  # 4,250 tokens by their bytes
    assert too_long([long], "unheard-of", BYTES) is None


def test_small_amounts_are_not_nothing() -> None:
    assert [shown(0.0), shown(0.00123), shown(12.345), shown(None)] == ["$0.00", "$0.0012", "$12.35", "unknown"]
