"""Templates over columns: what their fields read, what is left out, and which faults they give."""

from __future__ import annotations

import pytest

from kamerton.data.read.columns.fill import fill
from kamerton.data.template import Template, bind, check_template
from kamerton.errors import Fault

RECORD = {
    "q": "Why?",
    "c": "Because.",
    "empty": "",
    "none": None,
    "n": 3,
    "yes": True,
    "answers": {"text": ["11", "12"], "start": [1, 2]},
    "spans": [{"text": "a"}, {"text": "b"}],
    "one": ["only"],
    "choices": ["red", "blue"],
    "key": 1,
    "a.b": "dotted",
    "Tweet text": "hello",
    "pair": {"en": "yes", "pl": "tak"},
    "written": '["x", "y"]',
    "printed": "[{'text': 'x'}, {'text': 'y'}]",
    "cited": "[1] Smith, 1990",
    "no_spans": [],
}


def filled(source: str, **more: object) -> str | list[str]:
    """The text of the template for RECORD, or the codes of the faults."""
    record = RECORD | more
    template = bind(source, record, "data.prompt")
    if isinstance(template, Fault):
        return [template.code]
    text, faults = fill(template, record, lambda code: "error")
    return [fault.code for fault in faults] if text is None else text


@pytest.mark.parametrize("source", ["{choices[-1]}", "{pair[en]}", "{pair.}"])
def test_a_wrong_path_below_a_column_is_told_from_an_unknown_column(source: str) -> None:
    fault = bind(source, RECORD, "data.prompt")
    assert isinstance(fault, Fault)
    assert fault.message.startswith(f"{source} in data.prompt begins with the column")
    assert "[0]" in fault.fix


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (r"{c}\n\n{q}", "Because.\n\nWhy?"),
        ("{c}\n\n{q}", "Because.\n\nWhy?"),
        ("{{{q}}}", "{Why?}"),
        (r"a\\n {q}\t.", "a\\n Why?\t."),
        ("{n} {yes}", "3 true"),
        ("{answers.text[0]}", "11"),
        ("{written[1]}", "y"),
        ("{written:lines}", "x\ny"),
        ("{written}", '["x", "y"]'),
        ("{printed.text:list}", "x, y"),
        ("{printed:json}", '[{"text": "x"}, {"text": "y"}]'),
        ("{cited:lines}", "[1] Smith, 1990"),
        ("{cited[0]}", ["missing-field"]),
        ("{no_spans.text:json}", "[]"),
        ("{no_spans.text:list}", ["missing-field"]),
        ("{spans.text[1]}", "b"),
        ("{spans[1].text}", "b"),
        ("{answers.text:list}", "11, 12"),
        ("{answers.text:lines}", "11\n12"),
        ("{answers.text:words}", "11 12"),
        ("{one}", "only"),
        ("{pair:json}", '{"en": "yes", "pl": "tak"}'),
        ("{pair.pl}", "tak"),
        ("{choices:letters}", "A. red\nB. blue"),
        ("{q,c:letters}", "A. Why?\nB. Because."),
        ("{a.b}", "dotted"),
        ("{Tweet text}", "hello"),
        (r"{empty?}\n\n{q}", "Why?"),
        (r"Context: {none?}\n\n{q}", "Why?"),
        (r"{q}\n\n{empty?}", "Why?"),
        (r"{q} {empty?}", "Why? "),
        (r"{q}\n\nAnswer:", "Why?\n\nAnswer:"),
        ("{empty?}", ""),
        ("{empty}", ["empty-field"]),
        ("{none}", ["missing-field"]),
        ("{answers.text[5]}", ["missing-field"]),
        ("{answers.nothing}", ["missing-field"]),
        ("{q.upper}", ["missing-field"]),
        ("{answers}", ["not-text"]),
        ("{choices}", ["not-text"]),
        ("{empty} {none}", ["empty-field", "missing-field"]),
        ("{nothing}", ["unknown-column"]),
        ("{choices:letter}", ["bad-value"]),
        ("{q.__class__}", ["missing-field"]),
        ("{q!r}", ["unknown-column"]),
    ],
)
def test_filling(source: str, expected: str | list[str]) -> None:
    assert filled(source) == expected


def test_the_fault_of_an_unknown_column_has_the_template_with_the_closest_one() -> None:
    fault = bind("{Question?} {x}", ["question", "answer"], "data.prompt")
    assert isinstance(fault, Fault)
    assert (fault.column, fault.fix) == ("Question", "write {question?} in data.prompt")


@pytest.mark.parametrize("source", ["{", "a } b", "{}", "{ }", "{a{b}}", "{?}"])
def test_templates_that_cannot_be_read_are_refused_without_a_file(source: str) -> None:
    (fault,) = check_template(source, "data.prompt")
    assert (fault.code, fault.column) == ("bad-value", "data.prompt")
    assert "{{" in fault.fix


@pytest.mark.parametrize(
    ("source", "choices", "answer", "expected"),
    [
        ("{key:index0}", ["a", "b"], 1, "B"),
        ("{key:index1}", ["a", "b"], "1", "A"),
        ("{key:letter}", ["a", "b"], "b", "B"),
        ("{key:letter}", ["a", "b"], "(B)", "B"),
        ("{key:letter}", {"text": ["x", "y"], "label": ["1", "2"]}, "2", "B"),
        ("{key:letter}", {"A": "x", "B": "y"}, "B", "B"),
        ("{key:choice}", ["x", "y"], "y", "B"),
        ("{key:choice}", ["x", "x"], "x", ["bad-choice"]),
        ("{key:index0}", ["x", "y"], 2, ["bad-choice"]),
        ("{key:flags}", ["x", "y"], [0, 1], "B"),
        ("{key:flags}", ["x", "y"], [1, 1], ["bad-choice"]),
        ("{key:flags}", ["x", "y"], [0, 1, 0], ["bad-choice"]),
        ("{choices:flags}", {"choices": ["x", "y"], "labels": [0, 1]}, None, "B"),
        ("{choices:flags}", {"The mill.": 0, "The oven.": 1}, None, "B"),
        ("{choices:flags}", '{"The mill.": 0, "The oven.": 1}', None, "B"),
        ("{key:letter}", {"A": 0, "B": 1}, "B", "B"),  # numbers, not flags
        ("{key:letter}", ["x", "y"], "C", ["bad-choice"]),
        ("{key:letter}", ["x", "y"], None, ["missing-field"]),
    ],
)
def test_the_letter_of_the_answer(source: str, choices: object, answer: object, expected: str | list[str]) -> None:
    record = {"choices": choices, "key": answer}
    listed = bind("{choices:letters}", record, "data.prompt")
    assert isinstance(listed, Template)
    template = bind(source, record, "data.completion", listed.fields[0])
    assert isinstance(template, Template)
    text, faults = fill(template, record, lambda code: "error")
    assert (text or [fault.code for fault in faults]) == expected
