"""Texts that are lists or objects, as JSON or as Python prints them; nothing is executed."""

from __future__ import annotations

import pytest

from kamerton.data.read.nested import is_printed, parse_cell, unpacked


def test_large_and_deeply_nested_python_lists_are_refused() -> None:
    assert parse_cell("[" * 40 + "'a'" + "]" * 40) is None
    assert parse_cell("['" + "a" * 2**20 + "']") is None
    assert parse_cell("[" * 100_000) is None


@pytest.mark.parametrize("value", ["[1] Smith, 1990", "[INST] Why?", "{name}", "", 3, None, ["a"]])
def test_other_texts_and_values_are_unchanged(value: object) -> None:
    assert unpacked(value) == value
    assert not is_printed(value)


@pytest.mark.parametrize(("text", "printed"), [('["a", "b"]', False), ("['a', 'b']", True), ("[\"it's\", 'b']", True)])
def test_lists_of_json_are_told_from_those_of_python(text: str, printed: bool) -> None:
    assert isinstance(unpacked(text), list)
    assert is_printed(text) == printed
