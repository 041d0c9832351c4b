"""Graders of OpenAI's reinforcement fine-tuning as reward functions, held against the types of the `openai` package."""

from __future__ import annotations

import random
from typing import Any, get_args

import pytest
import sacrebleu
from nltk.translate.gleu_score import sentence_gleu
from openai.types.fine_tuning.reinforcement_method import Grader
from openai.types.graders import MultiGrader, StringCheckGrader, TextSimilarityGrader
from rouge_score.rouge_scorer import RougeScorer

from kamerton.errors import UserError
from kamerton.objective.graders import OPERATIONS, build_grader, grader_faults
from kamerton.objective.similarity import METRICS, similarity

TEXTS = [
    ("the cat sat on the mat", "the cat is on the mat"),
    ("a b c d e f g", "a b c d e f g"),
    ("one two", "one two three four five six"),
    ("nothing alike here", "something else entirely, it seems"),
    ("", "words"),
    ("words", ""),
]


def texts() -> list[tuple[str, str]]:
    """Pairs of texts: written and drawn."""
    draw = random.Random(1)
    drawn = [" ".join(draw.choices("abcdefg", k=draw.randint(1, 12))) for _ in range(80)]
    return [*TEXTS, *zip(drawn[::2], drawn[1::2], strict=True)]


def check(operation: str, text: str, reference: str) -> float:
    fields: Any = {"type": "string_check", "name": "check", "input": text, "reference": reference}
    grader = StringCheckGrader(operation=operation, **fields)  # type: ignore[arg-type]
    return build_grader(grader.to_dict())("the prompt", "The answer is 7", "7", {"topic": {"names": ["sums", "odd"]}})


@pytest.mark.parametrize(
    ("operation", "text", "reference", "grade"),
    [
        ("eq", "{{sample.output_text}}", "The answer is 7", 1),
        ("eq", "{{sample.output_text}}", "the answer is 7", 0),
        ("ne", "{{ sample.output_text }}", "the answer is 7", 1),
        ("ne", "{{sample.output_text}}", "The answer is 7", 0),
        ("like", "{{sample.output_text}}", "{{item.completion}}", 1),
        ("like", "{{sample.output_text}}", "the", 0),
        ("ilike", "{{sample.output_text}}", "THE", 1),
        ("ilike", "{{sample.output_text}}", "8", 0),
        ("eq", "{{item.prompt}}: {{item.topic.names[1]}}", "the prompt: odd", 1),
        ("eq", "{{item.topic.names}}", '["sums", "odd"]', 1),
        ("eq", "{{sample.output_json.value}}", "", 1),  # not JSON
    ],
)
def test_string_checks_compare_filled_templates(operation: str, text: str, reference: str, grade: int) -> None:
    assert check(operation, text, reference) == grade


def test_parts_of_an_answer_in_json_are_compared() -> None:
    fields: Any = {"name": "value", "input": "{{sample.output_json.a.b}}", "reference": "{{item.answer}}"}
    reward = build_grader({"type": "string_check", "operation": "eq", **fields})
    assert reward("", '{"a": {"b": 7}}', "", {"answer": 7}) == 1
    assert reward("", '{"a": {"b": 8}}', "", {"answer": 7}) == 0
    with pytest.raises(ValueError, match="the row has no field 'answer'"):
        reward("", "{}", "", {})


def test_every_type_and_value_of_the_package_is_supported_or_refused_with_a_reason() -> None:
    kinds = {get_args(each.model_fields["type"].annotation)[0] for each in get_args(Grader)}
    for kind in kinds - {"string_check", "text_similarity", "multi"}:
        (fault,) = grader_faults({"type": kind, "name": "x"})
        assert "is not supported: it" in fault.message
    metrics = set(get_args(TextSimilarityGrader.model_fields["evaluation_metric"].annotation))
    assert metrics - set(METRICS) == {"meteor", "cosine"}
    fields: Any = {"type": "text_similarity", "name": "x", "input": "a", "reference": "b"}
    (fault,) = grader_faults({**fields, "evaluation_metric": "meteor"})
    assert "synonyms of WordNet" in fault.message
    assert fault.fix.startswith("use rouge_l")
    assert set(METRICS) <= metrics
    assert get_args(StringCheckGrader.model_fields["operation"].annotation) == OPERATIONS


def test_rouge_is_that_of_rouge_score() -> None:
    names = {"rouge_l": "rougeL", **{f"rouge_{n}": f"rouge{n}" for n in range(1, 6)}}
    scorer = RougeScorer(list(names.values()))
    for text, reference in texts():
        scores = scorer.score(reference, text)
        for name, theirs in names.items():
            assert similarity(name, text, reference) == pytest.approx(scores[theirs].fmeasure, abs=1e-12), name


def test_bleu_is_that_of_sacrebleu() -> None:
    for text, reference in texts():
        score = sacrebleu.sentence_bleu(text.replace(",", " ,"), [reference.replace(",", " ,")], tokenize="none")
        assert similarity("bleu", text, reference) == pytest.approx(score.score / 100, abs=1e-9), (text, reference)


def test_gleu_is_that_of_nltk() -> None:
    for text, reference in texts():
        if text and reference:  # it fails for empty texts
            theirs = sentence_gleu([reference.replace(",", " ,").split()], text.replace(",", " ,").split())
            assert similarity("gleu", text, reference) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "reference", "ratio"),
    [("this is a test", "this is a test!", 28 / 29), ("abc", "cba", 1 / 3), ("", "", 1), ("", "a", 0), ("ż", "ż", 1)],
)
def test_fuzzy_match_is_the_normalised_indel_similarity(text: str, reference: str, ratio: float) -> None:
    assert similarity("fuzzy_match", text, reference) == pytest.approx(ratio)


EXACT = {"type": "string_check", "name": "exact", "operation": "eq"}
EXACT |= {"input": "{{sample.output_text}}", "reference": "{{item.answer}}"}
CLOSE = {"type": "text_similarity", "name": "close", "evaluation_metric": "rouge_1"}
CLOSE |= {"input": "{{sample.output_text}}", "reference": "{{item.answer}}"}


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("0.8 * exact + 0.2 * close", 0.2 * 2 / 3),
        ("max(exact, close) ^ 2", 4 / 9),
        ("-exact + min(1, 2, 3) / 4", 0.25),
        ("floor(close) + ceil(close) + abs(-1) + sqrt(4) + exp(0) + log(1)", 5),
    ],
)
def test_a_multi_combines_grades_by_its_formula(formula: str, value: float) -> None:
    multi = {"type": "multi", "name": "both", "graders": {"exact": EXACT, "close": CLOSE}, "calculate_output": formula}
    assert build_grader(multi)("", "seven apples", "", {"answer": "seven"}) == pytest.approx(value)


def test_a_multi_of_the_packages_type_has_one_grader_by_its_name() -> None:
    fields: Any = {"graders": EXACT, "calculate_output": "1 - exact"}
    multi = MultiGrader(type="multi", name="other", **fields)
    assert build_grader(multi.to_dict())("", "8", "", {"answer": "7"}) == 1


def test_an_undefined_formula_names_the_grades() -> None:
    multi = {"type": "multi", "name": "m", "graders": {"exact": EXACT}, "calculate_output": "1 / exact"}
    with pytest.raises(ValueError, match=r"1 / exact is undefined for \{'exact': 0.0\}"):
        build_grader(multi)("", "8", "", {"answer": "7"})
    with pytest.raises(ValueError, match="undefined"):
        build_grader({**multi, "calculate_output": "9 ^ 9 ^ (9 - exact)"})("", "8", "", {"answer": "7"})


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        ({"type": "regex"}, "grader.type", "the type regex is unknown"),
        ({"type": None}, "grader", "is not a grader with a type"),
        ({"operation": "match"}, "grader.operation", "operation match is unknown"),
        ({"pass_threshold": 1}, "grader.pass_threshold", "a grader string_check has no pass_threshold"),
        ({"input": None}, "grader.input", "is not a text"),
        ({"input": "{{answer}}"}, "grader.input", "{{answer}} is unknown"),
        ({"reference": "{{sample.choices}}"}, "grader.reference", "{{sample.choices}} is unknown"),
    ],
)
def test_what_a_grader_cannot_have_is_a_fault_at_its_place(changes: dict[str, Any], place: str, message: str) -> None:
    (fault,) = grader_faults({**EXACT, **changes})
    assert (fault.column, fault.message) == (place, message)
    with pytest.raises(UserError):
        build_grader({**EXACT, **changes})


@pytest.mark.parametrize(
    "formula",
    [
        "__import__('os')",
        "exact.real",
        "exact if exact else 1",
        "[exact for x in exact]",
        "other",
        "exact < 1",
        "'a' * 9",
        "min(*exact)",
        "min()",
        "min",
        "min(a=1)",
        "True",
        "exact +",
        "",
        "-" * 301 + "exact",
        "(" * 140 + "exact" + ")" * 140,
        "lambda: 1",
    ],
)
def test_a_formula_is_arithmetic_of_grades_alone(formula: str) -> None:
    multi = {"type": "multi", "name": "m", "graders": {"exact": EXACT}, "calculate_output": formula}
    faults = list(grader_faults(multi))
    if formula.startswith("("):  # deep, but arithmetic
        assert not faults
    else:
        assert [fault.column for fault in faults] == ["grader.calculate_output"], faults


def test_graders_of_a_multi_are_checked_with_their_names() -> None:
    graders = {"good": EXACT, "judge": {"type": "score_model", "name": "j"}, "not a name": EXACT, "min": EXACT}
    multi = {"type": "multi", "name": "m", "graders": {**graders, "nested": {"type": "multi"}}, "calculate_output": "1"}
    places = [fault.column for fault in grader_faults(multi)]
    assert places == ["grader.graders.judge.type", "grader.graders", "grader.graders", "grader.graders.nested"]
    assert [fault.column for fault in grader_faults({**multi, "graders": []})] == ["grader.graders"]


@pytest.mark.parametrize("formula", ["1/0", "close + 1/0", "min(close, log(0))", "close * sqrt(-1)", "9 ^ 9 ^ 9"])
def test_a_formula_that_is_never_defined_is_a_fault(formula: str) -> None:
    part = {"type": "string_check", "name": "close", "input": "a", "reference": "a", "operation": "eq"}
    multi = {"type": "multi", "name": "sum", "graders": {"close": part}, "calculate_output": formula}
    (fault,) = grader_faults(multi)
    assert "is never defined" in fault.message
    assert not list(grader_faults({**multi, "calculate_output": "1 / (close + 1) + 3 ^ 2"}))
