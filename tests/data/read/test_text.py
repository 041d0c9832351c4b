"""Faults of a single text are reported, and fixed only if the policy allows it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamerton.data.read.text import check_text


def look(value: object, fixing: tuple[str, ...] = ()) -> tuple[str | None, list[str]]:
    text, faults = check_text(value, "prompt", lambda code: "fix" if code in fixing else "warn")
    return text, [fault.code for fault in faults]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "missing-field"),
        ("", "empty-field"),
        (" \n", "empty-field"),
        (3, "not-a-string"),
        (["a"], "not-text"),
        ("a\ud800b", "half-surrogate"),
    ],
)
def test_no_text_can_be_had(value: object, code: str) -> None:
    assert look(value) == (None, [code])


@pytest.mark.parametrize(
    ("value", "code", "mended"),
    [
        ("a\x00b", "control-characters", "ab"),
        ("a\u202eb", "control-characters", "ab"),
        ("cafe\u0301", "not-nfc", "café"),
        (" a ", "outer-whitespace", "a"),
        ("schÃ¶n", "mojibake", "schön"),
    ],
)
def test_mojibake_causes_a_warning_and_is_fixed_on_request(value: str, code: str, mended: str) -> None:
    assert look(value) == (value, [code])
    assert look(value, (code,)) == (mended, [code])


@pytest.mark.parametrize("value", ["a\tb\nc", "naïve café", "日本語", "👩\u200d👧", "£5 – “quoted”", "Ünï"])
def test_good_text_is_left_alone(value: str) -> None:
    assert look(value) == (value, [])


def test_numbers_become_text_if_asked() -> None:
    assert look(3, ("not-a-string",)) == ("3", ["not-a-string"])
    assert look(True, ("not-a-string",)) == ("True", ["not-a-string"])
    assert look({"a": 1}, ("not-a-string",)) == (None, ["not-text"])


def test_a_text_that_is_empty_after_fixing_is_empty() -> None:
    assert look("\x00", ("control-characters",)) == (None, ["control-characters", "empty-field"])


ALL = ("control-characters", "not-nfc", "outer-whitespace", "mojibake")


@given(st.text())
def test_fixing_is_idempotent(value: str) -> None:
    text, _ = look(value, ALL)
    if text is not None:
        assert text == text.strip()
        assert unicodedata.is_normalized("NFC", text)
        assert "control-characters" not in look(text)[1]
