"""Streamed text: joined, it is the text up to the first stop string; no chunk splits a character."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers.convert_slow_tokenizer import bytes_to_unicode

from kamerton.model.tiny import tiny_tokenizer
from kamerton.server.generation.text_stream import TextStream

TOKENIZER = tiny_tokenizer()
TOKEN_OF = {byte: TOKENIZER.convert_tokens_to_ids(letter) for byte, letter in bytes_to_unicode().items()}
HALVES = b"\xff\xe2\xf0\x9f"  # bytes that are no character, or a part of one
answers = st.lists(st.sampled_from([*"aabbc🐈🐉ż .".encode(), *HALVES]), max_size=24).map(bytes)
stops = st.lists(st.text(alphabet="abc🐈ż .", min_size=1, max_size=3), max_size=4)


def decode(tokens: list[int]) -> str:
    return str(TOKENIZER.decode(tokens, skip_special_tokens=True))


def streamed(answer: bytes, stops: list[str]) -> tuple[list[str], bool]:
    """Return the pieces of an answer that ends with a stop string or its last byte."""
    stream = TextStream(decode, stops)
    pieces = []
    for byte in answer:
        pieces.append(stream.add(TOKEN_OF[byte]))
        if stream.stopped:
            break
    return [*pieces, stream.finish()], stream.stopped


def reference(text: str, stops: list[str]) -> tuple[str, bool]:
    """The text before the stop string that is complete first."""
    for end in range(1, len(text) + 1):
        if result := [stop for stop in stops if text[:end].endswith(stop)]:
            return text[: end - max(map(len, result))], True
    return text, False


@given(answers, stops)
@example("ab🐈".encode(), ["🐈"])
@example(b"abac", ["abc", "ac"])
@example(b"bcb", ["abcX", "cb"])
@settings(deadline=None, max_examples=300)
def test_pieces_are_the_text_before_the_first_stop_string(answer: bytes, stops: list[str]) -> None:
    pieces, stopped = streamed(answer, stops)
    expected_text = decode([TOKEN_OF[byte] for byte in answer])
    assert ("".join(pieces), stopped) == reference(expected_text, stops)


@given(st.text(alphabet="a🐈ż", min_size=1, max_size=8))
def test_text_is_streamed_once_its_character_is_complete(text: str) -> None:
    stream = TextStream(decode)
    for letter in text:
        pieces = [stream.add(TOKEN_OF[byte]) for byte in letter.encode()]
        assert pieces == [*[""] * (len(pieces) - 1), letter]
    assert stream.finish() == ""


def test_the_beginning_of_a_stop_string_is_held_until_it_is_none() -> None:
    stream = TextStream(decode, ["END"])
    assert [stream.add(TOKEN_OF[byte]) for byte in b"EEN."] == ["", "E", "", "EN."]
    assert [stream.add(TOKEN_OF[byte]) for byte in b"EN"] == ["", ""]
    assert stream.finish() == "EN"


def test_a_space_that_decoding_removes_is_not_sent() -> None:
    stream = TextStream(lambda tokens: decode(tokens).replace(" .", "."), cleans=True)
    pieces = [stream.add(TOKEN_OF[byte]) for byte in b"so it is ."]
    assert "".join([*pieces, stream.finish()]) == "so it is."
