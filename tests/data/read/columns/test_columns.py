"""Columns to prompts: templates, recognised data sets, system turns and history, and proposals that read the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kamerton.data.options import Columns, DataOptions, Source, SplitOptions
from kamerton.data.validation import ValidationResult, read_examples, validate
from kamerton.errors import UserError
from support.rows import question, write_jsonl
from support.settings import data_options, settings_of

Row = dict[str, Any]
SENTENCE = "Record 3 of the parish counts 11 mills."


def first(tmp_path: Path, row: Row, *more: Row, **options: Any) -> tuple[list[tuple[str, str]], str]:
    """The turns before the completion of the first row, and the completion."""
    path = write_jsonl(tmp_path / "rows.jsonl", [row, *more])
    example = next(read_examples(DataOptions(path=str(path), **options)))
    return [(turn.role, turn.content) for turn in example.messages[:-1]], example.completion


def prompt(tmp_path: Path, *rows: Row, **options: Any) -> tuple[str, str]:
    """The prompt of the first row, which is one user's turn, and its completion."""
    (((role, text),), completion) = first(tmp_path, *rows, **options)
    assert role == "user"
    return text, completion


def checked(tmp_path: Path, rows: list[Row], **options: Any) -> ValidationResult:
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    return validate(DataOptions(path=str(path), near_duplicates=None, **options), SplitOptions(ratios=[1, 0, 0]))


MMLU = {"question": "How many?", "choices": ["9", "11"], "subject": "mills"}
RECOGNISED: dict[str, tuple[Row, str, str]] = {
    "question and context": (
        {"context": SENTENCE, "question": "How many?", "answer": "11"},
        f"{SENTENCE}\n\nHow many?",
        "11",
    ),
    "passage of truth values": (
        {"passage": SENTENCE, "question": "Are there 11?", "answer": True},
        f"{SENTENCE}\n\nAre there 11?",
        "true",
    ),
    "contexts": ({"contexts": ["a b", "c"], "question": "q", "answer": "x"}, "a b\nc\n\nq", "x"),
    "SQuAD": (
        {"context": SENTENCE, "question": "How many?", "answers": {"text": ["11", "eleven"], "answer_start": [1, 1]}},
        f"{SENTENCE}\n\nHow many?",
        "11",
    ),
    "SQuAD, nested": (
        {"context": SENTENCE, "question": "How many?", "answers": [{"text": "11", "answer_start": 27}]},
        f"{SENTENCE}\n\nHow many?",
        "11",
    ),
    "answers alone": ({"question": "Who?", "answers": ["Ada", "Ada L."]}, "Who?", "Ada"),
    "Dolly": (
        {"instruction": "How many?", "context": SENTENCE, "response": "11", "category": "closed_qa"},
        f"How many?\n\n{SENTENCE}",
        "11",
    ),
    "Alpaca with capitals": (
        {"Instruction": "How many?", "Input": SENTENCE, "Output": "11"},
        f"How many?\n\n{SENTENCE}",
        "11",
    ),
    "a column without a name": ({"question": "How many?", "answer": "11", "": SENTENCE}, "How many?", "11"),
    "capitals": ({"Question": "How many?", "Answer": "11"}, "How many?", "11"),
    "MMLU": (MMLU | {"answer": 0}, "How many?\n\nA. 9\nB. 11", "A"),
    "MMLU by letter": (MMLU | {"answer": "B"}, "How many?\n\nA. 9\nB. 11", "B"),
    "MMLU by text": (MMLU | {"answer": "11"}, "How many?\n\nA. 9\nB. 11", "B"),
    "ARC": (
        {"question": "How many?", "choices": {"text": ["9", "11"], "label": ["1", "2"]}, "answerKey": "2"},
        "How many?\n\nA. 9\nB. 11",
        "B",
    ),
    "columns of choices": (
        {"question": "How many?", "A": "9", "B": "11", "C": "12", "answer": "C"},
        "How many?\n\nA. 9\nB. 11\nC. 12",
        "C",
    ),
    "numbered choices": (
        {"sentence": "It has _ mills.", "option1": "nine", "option2": "two", "answer": "2"},
        "It has _ mills.\n\nA. nine\nB. two",
        "B",
    ),
    "choices by letter with a passage": (
        {"article": SENTENCE, "question": "How many?", "options": {"A": "9", "B": "11"}, "answer": "B"},
        f"{SENTENCE}\n\nHow many?\n\nA. 9\nB. 11",
        "B",
    ),
    "two sentences": (
        {"sentence1": "a b", "sentence2": "c d", "label": "same", "idx": 1},
        "sentence1: a b\nsentence2: c d",
        "same",
    ),
    "premise": (
        {"premise": "a b", "hypothesis": "c d", "label": "neutral"},
        "premise: a b\nhypothesis: c d",
        "neutral",
    ),
    "QNLI": ({"question": "a", "sentence": "b", "label": "entailment"}, "question: a\nsentence: b", "entailment"),
    "summary": ({"document": SENTENCE, "summary": "11 mills"}, SENTENCE, "11 mills"),
    "highlights": ({"article": SENTENCE, "highlights": "11 mills", "id": "x"}, SENTENCE, "11 mills"),
    "text and summary": ({"text": SENTENCE, "summary": "11 mills"}, SENTENCE, "11 mills"),
    "label with its name": ({"text": SENTENCE, "label": 1, "label_text": "yes"}, SENTENCE, "yes"),
    "code": ({"prompt": "def f():", "canonical_solution": "return 1", "task_id": "1"}, "def f():", "return 1"),
    "problem": ({"problem": "1 + 1", "solution": "2"}, "1 + 1", "2"),
    "ARC, nested": (
        {"question": {"stem": "How many?", "choices": [{"label": "A", "text": "9"}, {"label": "B", "text": "11"}]}}
        | {"answerKey": "B"},
        "How many?\n\nA. 9\nB. 11",
        "B",
    ),
    "COPA": (
        {"premise": "It fell.", "question": "cause", "choice1": "wind", "choice2": "sun", "label": 0},
        "It fell.\n\ncause\n\nA. wind\nB. sun",
        "A",
    ),
    "duplicates": (
        {"question1": "a b", "question2": "c d", "is_duplicate": 1},
        "question1: a b\nquestion2: c d",
        "1",
    ),
    "source and target": ({"source": "a b c", "target": "d e f"}, "a b c", "d e f"),
    "user and assistant": ({"user": "hello", "assistant": "hi"}, "hello", "hi"),
}


@pytest.mark.parametrize("name", RECOGNISED)
def test_recognised_data_sets(tmp_path: Path, name: str) -> None:
    row, text, completion = RECOGNISED[name]
    assert prompt(tmp_path, row) == (text, completion)


def test_the_context_may_be_missing_in_any_row(tmp_path: Path) -> None:
    rows = [{"question": question(i), "answer": f"{i}"} | ({"context": SENTENCE} if i % 2 else {}) for i in range(30)]
    results = checked(tmp_path, rows)
    assert results.is_valid
    assert results.report["schemas"] == {"data": {r"template ({context?}\n\n{question} → {answer})": 30}}


def test_templates_write_prompt_and_completion(tmp_path: Path) -> None:
    row = {"context": SENTENCE, "q": "How many?", "n": 11, "answers": {"text": ["11"]}}
    templates = {"prompt": r"Context: {context}\nQuestion: {q}", "completion": "{answers.text[0]}"}
    assert prompt(tmp_path, row, **templates) == (f"Context: {SENTENCE}\nQuestion: How many?", "11")
    assert prompt(tmp_path, {"question": "q", "a": 3}, completion="{a} mills") == ("q", "3 mills")
    assert prompt(tmp_path, MMLU | {"answer": 0}, prompt=r"{question}\n{choices:letters}") == (
        "How many?\nA. 9\nB. 11",
        "A",
    )


def test_a_missing_or_empty_field_of_a_template_is_a_fault_of_its_row(tmp_path: Path) -> None:
    rows = [{"a": question(i), "b": f"{i}", "c": "x y"} for i in range(9)]
    rows[3]["c"] = ""
    rows[5]["c"] = None
    del rows[7]["c"]
    templates: Any = {"prompt": "{a} {c}", "completion": "{b}"}
    results = checked(tmp_path, rows, **templates)
    assert [(fault.code, fault.row, fault.column) for fault in results.errors] == [
        ("empty-field", 4, "c"),
        ("missing-field", 6, "c"),
        ("missing-field", 8, "c"),
    ]
    policy = {"empty-field": "drop", "missing-field": "drop"}
    assert checked(tmp_path, rows, **templates, policy=policy).report["counts"]["train"] == 6


def test_an_unknown_column_of_a_template_is_one_fault_with_the_closest_column(tmp_path: Path) -> None:
    rows = [{"context": SENTENCE, "question": question(i), "answer": f"{i}"} for i in range(9)]
    (fault,) = checked(tmp_path, rows, prompt="{contxt} {question}").errors
    assert (fault.code, fault.column) == ("unknown-column", "contxt")
    assert "{context}" in fault.fix


def test_a_system_column_is_the_first_turn(tmp_path: Path) -> None:
    row = {"system_prompt": "Be brief.", "question": "Why?", "response": "So."}
    assert first(tmp_path, row) == ([("system", "Be brief."), ("user", "Why?")], "So.")
    assert first(tmp_path, row | {"system_prompt": ""}, row)[0] == [("user", "Why?")]
    turns = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]
    assert first(tmp_path, {"system": "Be brief.", "conversations": turns})[0][0] == ("system", "Be brief.")
    parts = {"system": [{"text": "Be brief."}], "messages": [{"role": "user", "content": "Why?"}]}
    parts["messages"].append({"role": "assistant", "content": [{"text": "So."}]})  # type: ignore[dict-item]
    assert first(tmp_path, parts)[0][0] == ("system", "Be brief.")
    assert first(tmp_path, row, columns=Columns(metadata=["system_prompt"]))[0] == [("user", "Why?")]


def test_a_second_system_turn_is_a_fault_unless_it_is_the_same(tmp_path: Path) -> None:
    turns = [{"role": role, "content": text} for role, text in (("system", "a"), ("user", "b"), ("assistant", "c"))]
    assert first(tmp_path, {"system": "a", "messages": turns})[0] == [("system", "a"), ("user", "b")]
    (fault,) = checked(tmp_path, [{"system": "other", "messages": turns}]).errors
    assert (fault.code, fault.column) == ("bad-messages", "system")


def test_columns_read_as_turns_are_named(tmp_path: Path) -> None:
    row = {"system": "Be brief.", "question": "Why?", "answer": "So.", "history": [["a", "b"]]}
    (notes,) = checked(tmp_path, [row]).report["notes"].values()
    assert "system as the system turn" in notes
    assert "history as earlier turns" in notes


def test_the_setting_that_shows_a_text_to_the_model(tmp_path: Path) -> None:
    for name in ("persona", "task", "support"):
        rows = [{name: SENTENCE, "user": question(i), "assistant": f"{i}"} for i in range(9)]
        (warning,) = [fault for fault in checked(tmp_path, rows).warnings if fault.code == "unused-field"]
        turns, _ = first(tmp_path, rows[0], **data_options(settings_of(warning.fix)[0]))
        assert SENTENCE in "".join(text for _, text in turns)


def test_history_is_earlier_turns(tmp_path: Path) -> None:
    row = {"instruction": "And?", "input": "", "output": "So.", "history": [["Why?", "Because."]], "system": "Brief."}
    turns = [("system", "Brief."), ("user", "Why?"), ("assistant", "Because."), ("user", "And?")]
    assert first(tmp_path, row) == (turns, "So.")
    assert first(tmp_path, row | {"history": [], "system": None}, row)[0] == [("user", "And?")]
    spoken = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]
    assert first(tmp_path, row | {"history": spoken})[0] == turns
    (fault,) = checked(tmp_path, [row | {"history": ["Why?"]}]).errors
    assert (fault.code, fault.column) == ("bad-messages", "history")


def test_system_and_instruction_of_the_configuration(tmp_path: Path) -> None:
    row = {"text": SENTENCE, "label": "mill", "town": "Ames"}
    turns, _ = first(tmp_path, row, system="You know {town}.", instruction=r"Name the building:\n")
    assert turns == [("system", "You know Ames."), ("user", f"Name the building:\n\n\n{SENTENCE}")]
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    assert first(tmp_path, chat, system="Be brief.")[0] == [("system", "Be brief."), ("user", "a")]
    with pytest.raises(UserError, match=r"data\.system"):
        first(tmp_path, chat, instruction="Be brief.")
    with pytest.raises(UserError, match=r"data\.system"):
        first(tmp_path, {"text": SENTENCE}, system="Be brief.")


def test_names_of_labels(tmp_path: Path) -> None:
    rows = [{"text": question(i), "label": i % 2} for i in range(30)]
    (*_, fault) = checked(tmp_path, rows).errors
    assert "data.label_names" in fault.fix
    for names in (["no", "yes"], {0: "no", 1: "yes"}):
        assert checked(tmp_path, rows, label_names=names).report["labels"] == ["no", "yes"]
    texts = [row | {"label": f"{row['label']}"} for row in rows]
    assert checked(tmp_path, texts, label_names=["no", "yes"]).report["labels"] == ["no", "yes"]
    (warning,) = [fault for fault in checked(tmp_path, texts).warnings if fault.code == "numeric-labels"]
    (way,) = settings_of(warning.fix)
    assert checked(tmp_path, texts, **data_options(way)).report["labels"] == ["NAME0", "NAME1"]
    (fault, *_) = checked(tmp_path, [*rows, {"text": "a b", "label": 3}], label_names=["no", "yes"]).errors
    assert (fault.code, fault.row) == ("unknown-label", 31)


def test_names_of_labels_from_1(tmp_path: Path) -> None:
    rows = [{"text": question(i), "label": i % 3 + 1} for i in range(30)]
    texts = [row | {"label": f"{row['label']}"} for row in rows]
    (warning,) = [fault for fault in checked(tmp_path, texts).warnings if fault.code == "numeric-labels"]
    for fix in (warning.fix, checked(tmp_path, rows).errors[0].fix):
        (way, *_) = settings_of(fix)
        assert checked(tmp_path, rows, **data_options(way)).report["labels"] == ["NAME1", "NAME2", "NAME3"]
    fault = checked(tmp_path, rows, label_names=["no", "yes", "both"]).errors[0]
    (way, *_) = settings_of(fault.fix)
    assert checked(tmp_path, rows, **data_options(way)).report["labels"] == ["both", "no", "yes"]


def test_numbers_that_do_not_repeat_are_no_labels(tmp_path: Path) -> None:
    fault = checked(tmp_path, [{"text": question(i), "answer": i} for i in range(30)]).errors[0]
    assert (fault.code, "label_names" in fault.fix) == ("not-a-string", False)


UNCLEAR: dict[str, Row] = {
    "translation": {"translation": {"en": "yes", "pl": "tak"}},
    "columns of languages": {"en": "yes", "pl": "tak"},
    "positions of choices": {"question": "How many?", "choices": ["a", "b", "c"], "answer": 1},
    "no choice": {"question": "How many?", "choices": ["9", "11"], "answer": "some"},
    "two contexts": {"question": "q", "context": SENTENCE, "document": SENTENCE, "answer": "11"},
    "object as context": {"question": "q", "context": {"contexts": ["a b", "c"], "year": 3}, "answer": "yes"},
    "label of another name": {"text": SENTENCE, "airline_sentiment": "good"},
    "numbers as labels": {"text": SENTENCE, "labels": 1},
    "several labels": {"text": SENTENCE, "labels": ["a", "b"]},
    "title": {"title": "Mills", "text": SENTENCE},
    "unknown names": {"pytanie": f"{SENTENCE} a b c", "etykieta": "x"},
    "two unknown texts": {"zdanie a": SENTENCE, "zdanie b": SENTENCE, "wynik": "x", "id": 1},
    "source code": {"code": "return 1", "docstring": "Return one."},
    "content": {"content": SENTENCE, "path": "a/b.py"},
    "solution and answer": {"question": "1 + 1?", "solution": "It is 2.", "answer": "2"},
    "chain of thought": {"Question": "How many?", "Complex_CoT": SENTENCE, "Response": "11"},
    "instances": {"instruction": "Add.", "instances": [{"input": "1 + 1", "output": "2"}]},
    "objects": {"text": SENTENCE, "entities": [{"start": 7}]},
    "answer as an object": {"input": SENTENCE, "output": {"mills": 11}},
    "sentences of a context": {"question": "q", "context": {"title": ["a"], "sentences": [[SENTENCE]]}, "answer": "x"},
    "title and text with a label": {"Class Index": 1, "Title": "Mills of the parish", "Description": SENTENCE},
    "pairs with a quality": {"Quality": 1, "#1 ID": 1, "#1 String": SENTENCE, "#2 String": SENTENCE},
    "rating": {"review": SENTENCE, "stars": 4},
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_rows_of_unclear_columns_are_one_fault_whose_settings_read_them(tmp_path: Path, name: str) -> None:
    row = UNCLEAR[name]
    rows = [row | {"id": i} for i in range(12)]
    (fault,) = checked(tmp_path, rows).errors
    ways = [way for way in settings_of(fault.fix) if "metadata" not in str(way)]
    assert ways
    for way in ways:
        turns, completion = first(tmp_path, row, **data_options(way))
        assert completion
        shown = " ".join([*(text for _, text in turns), completion])
        unread = [v for v in row.values() if isinstance(v, str) and len(v) > 20 and v not in shown]
        assert not unread or name == "chain of thought"
        results = checked(tmp_path, [row | {"id": i} for i in range(12)], **data_options(way))
        assert results.is_valid, (way, results.errors)


def test_sources_have_templates_of_their_own(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"q": "Why?", "a": "So."}])
    write_jsonl(tmp_path / "b.jsonl", [{"text": "fine", "label": 1}])
    sources = {
        "a": Source(str(tmp_path / "a.jsonl"), prompt="{q}", completion="{a}", system="Be brief."),
        "b": Source(str(tmp_path / "b.jsonl"), label_names=["bad", "good"], instruction="Judge:"),
    }
    examples = [*read_examples(DataOptions(sources=sources))]
    assert [turn.content for turn in examples[0].messages] == ["Be brief.", "Why?", "So."]
    assert [turn.content for turn in examples[1].messages] == ["Judge:\n\nfine", "good"]


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"prompt": "{a"}, "data.prompt"),
        ({"system": " "}, "data.system"),
        ({"prompt": "{a}", "columns": Columns(prompt="a")}, "data.prompt"),
        ({"completion": "{a}", "columns": Columns(label="a")}, "data.completion"),
        ({"label_names": ["no"]}, "data.label_names"),
        ({"label_names": ["no", "no"]}, "data.label_names"),
        ({"label_names": {"no": "0", "yes": "1"}}, "data.label_names"),
        ({"label_names": {"0": "no", 1: "yes"}}, "data.label_names"),
    ],
)
def test_settings_that_cannot_be_used_are_faults_before_any_file_is_read(options: dict[str, Any], key: str) -> None:
    (fault,) = validate(DataOptions(path="missing.jsonl", **options)).errors
    assert (fault.code, fault.column) == ("bad-value", key)
