"""The prompt of a trained model from fields, by the settings that are kept with the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kamerton.data import build_messages
from kamerton.data.gate import prepare
from kamerton.data.options import Columns, DataOptions, SplitOptions
from kamerton.data.prompting import FORM, with_saved_form, write_form
from kamerton.errors import UserError
from support.rows import question, write_jsonl

SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "pair": ({"question": "Why?", "answer": "So."}, {}),
    "Alpaca": ({"instruction": "Add.", "input": "1 + 1", "output": "2"}, {}),
    "Alpaca without input": ({"instruction": "Add.", "output": "2"}, {}),
    "context": ({"context": "", "question": "Why?", "answer": "So."}, {}),
    "system": ({"system_prompt": "Be brief.", "question": "Why?", "response": "So."}, {}),
    "choices": ({"question": "Which?", "choices": ["a", "b"], "answer": 0}, {}),
    "templates": (
        {"a": "x", "b": "y", "c": 1},
        {"prompt": r"{a}\n{b}", "completion": "{c}", "system": "On {b}.", "instruction": "Read:"},
    ),
    "turns": (
        {"messages": [{"role": "user", "content": "Why?"}], "grade": {"mark": 3}},
        {"prompt": "{messages}", "completion": "{grade.mark}", "system": "Be brief."},
    ),
    "names of labels": ({"text": "good", "label": 1}, {"label_names": ["no", "yes"]}),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_messages_are_those_of_the_training_row(tmp_path: Path, name: str) -> None:
    row, options = SHAPES[name]
    data = DataOptions(path=str(write_jsonl(tmp_path / "rows.jsonl", [row])), **options)
    prepared = prepare(data, SplitOptions(ratios=[1, 0, 0]))
    (tmp_path / "run" / "model").mkdir(parents=True)
    write_form(tmp_path / "run" / "model", prepared.facts.form)
    (example,) = prepared.splits["train"]
    expected = [{"role": turn.role, "content": turn.content} for turn in example.messages[:-1]]
    for folder in (tmp_path / "run", tmp_path / "run" / "model"):
        assert build_messages(folder, row) == expected
        assert build_messages(str(folder), {key: row[key] for key in list(row)[:-1]}) == expected
    again = with_saved_form(data if not options else DataOptions(path=data.path), tmp_path / "run" / "model")
    (read_again,) = prepare(again, SplitOptions(ratios=[1, 0, 0])).splits["train"]
    assert (read_again.id, read_again.completion) == (example.id, example.completion)


def test_missing_and_empty_fields_are_faults(tmp_path: Path) -> None:
    write_form(tmp_path, {"prompt": "{context?} {question}", "completion": "{answer}"})
    assert build_messages(tmp_path, {"question": "Why?"}) == [{"role": "user", "content": " Why?"}]
    for fields in ({"context": "x"}, {"question": ""}, {"question": None}):
        with pytest.raises(UserError, match="question"):
            build_messages(tmp_path, fields)


def test_a_model_of_chats_has_no_form(tmp_path: Path) -> None:
    write_form(tmp_path, {})
    assert not (tmp_path / FORM).exists()
    with pytest.raises(UserError, match="chats or plain text"):
        build_messages(tmp_path, {"question": "Why?"})


@pytest.mark.parametrize("text", ["[]", "{", '{"prompt": 3}', '{"completion": "{a}"}', '{"prompt": "{"}', '{"x": "y"}'])
def test_a_changed_file_is_one_fault(tmp_path: Path, text: str) -> None:
    (tmp_path / FORM).write_text(text)
    with pytest.raises(UserError, match=FORM):
        build_messages(tmp_path, {"a": "b"})


def test_saved_settings_yield_to_given_ones_and_to_other_columns(tmp_path: Path) -> None:
    (tmp_path / FORM).write_text(json.dumps({"prompt": "{question}!", "completion": "{answer}"}))
    rows = [{"question": question(i), "answer": f"{i}"} for i in range(3)]
    data = DataOptions(path=str(write_jsonl(tmp_path / "rows.jsonl", rows)))
    assert with_saved_form(data, tmp_path).prompt == "{question}!"
    named = DataOptions(path=data.path, columns=Columns(prompt="question"))
    assert with_saved_form(named, tmp_path) is named
    others = DataOptions(path=str(write_jsonl(tmp_path / "others.jsonl", [{"prompt": "a", "completion": "b"}])))
    assert with_saved_form(others, tmp_path) is others
    assert with_saved_form(data, tmp_path / "nothing") is data


def test_preferences_are_read_with_the_prompt_of_the_model_alone(tmp_path: Path) -> None:
    pair = {"context": "It rained.", "question": "Is it wet?", "chosen": "Yes.", "rejected": "No."}
    path = str(write_jsonl(tmp_path / "rows.jsonl", [pair]))
    for completion in ("{chosen}", "{answer}"):  # of a run on such pairs, and of one on single completions
        write_form(tmp_path, {"prompt": r"{context}\n\n{question}", "completion": completion})
        data = with_saved_form(DataOptions(path=path, rows="preferences"), tmp_path)
        assert (data.rows, data.completion) == ("preferences", None)
        (example,) = prepare(data, SplitOptions(ratios=[1, 0, 0])).splits["train"]
        assert example.prompt_text.endswith("It rained.\n\nIs it wet?")
        assert (example.completion, example.alternatives[0].completion) == ("Yes.", "No.")
    turns = {**pair, "chosen": [{"role": "assistant", "content": "Yes."}]}
    others = DataOptions(path=str(write_jsonl(tmp_path / "turns.jsonl", [turns])), rows="preferences")
    assert with_saved_form(others, tmp_path) is others
