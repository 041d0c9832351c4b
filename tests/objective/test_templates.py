"""Texts of graders with parts of an answer and a row."""

from __future__ import annotations

import json

import pytest

from kamerton.objective.templates import MAX_TEXT, fill, has_path, item_of, item_paths, names_sample, unknown_parts

ITEM = item_of("2 + 2?", "4", {"topic": "sums", "answer": {"digits": [4, 0]}, "metadata.topic": "inner"})


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("plain text", "plain text"),
        ("{{sample.output_text}}!", "four!"),
        ("{{ item.prompt }} {{item.completion}}", "2 + 2? 4"),
        ("{{item.answer.digits[0]}} {{item.answer.digits}}", "4 [4, 0]"),
        ("{{item.topic}} {{item.metadata.topic}}", "sums inner"),
        ("${oc.env:HOME} $item {item.topic} {{", "${oc.env:HOME} $item {item.topic} {{"),
    ],
)
def test_only_parts_in_double_brackets_are_filled_in(template: str, filled: str) -> None:
    assert fill(template, "four", ITEM) == filled
    assert not list(unknown_parts(template))


def test_what_a_text_names_is_known_before_any_answer() -> None:
    template = (
        "{{item.answer.digits[1]}} {{item.topic}} {{sample.output_json.a}} {{sample.choices}} {{topic}} {{{item.a}}}"
    )
    assert item_paths(template) == [("answer", "digits", "1"), ("topic",)]
    assert list(unknown_parts(template)) == ["sample.choices", "topic", "{item.a"]
    assert names_sample(template, "output_json")
    assert not names_sample("{{sample.output_text}} {{item.output_json}}", "output_json")
    assert names_sample("{{ sample.output_tools[0].function.name }}", "output_tools")


CALLS = [{"id": "call_0", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Łódź"}'}}]


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("{{sample.output_tools[0].function.name}}", "weather"),
        ("{{ sample.output_tools[0].function.arguments }}", '{"city": "Łódź"}'),
        ("{{sample.output_tools[1].function.name}}", ""),
        ("{{sample.output_tools}}", json.dumps(CALLS, ensure_ascii=False)),
    ],
)
def test_calls_of_an_answer_are_those_of_a_message_of_openai(template: str, filled: str) -> None:
    assert not list(unknown_parts(template))
    assert fill(template, "four", ITEM, CALLS) == filled
    assert fill(template, "four", ITEM, []) == ""
    with pytest.raises(ValueError, match=r"reads sample\.output_tools"):
        fill(template, "four", ITEM)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (("topic",), True),
        (("answer", "digits", "1"), True),
        (("answer", "digits", "2"), False),
        (("answer", "digits", "9" * 5000), False),
        (("answer", "letters"), False),
        (("topic", "first"), False),
        (("other",), False),
    ],
)
def test_a_row_has_a_path_only_with_all_its_keys(path: tuple[str, ...], found: bool) -> None:
    assert has_path(ITEM, path) is found
    if not found:
        with pytest.raises(ValueError, match=r"the row has no field"):
            fill("{{item." + ".".join(path) + "}}", "four", ITEM)


def test_a_text_cannot_grow_without_limit() -> None:
    with pytest.raises(ValueError, match="more than 50,000 characters"):
        fill("{{sample.output_text}}" * 1000, "x" * (MAX_TEXT // 100), {})


def test_brackets_without_end_take_no_time() -> None:
    assert not list(unknown_parts("{{" * 60_000))
    assert not list(unknown_parts("{{a" * 40_000))
