"""Rows that no setting reads: one fault, whose command converts them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kamerton.data.example import DataExample
from kamerton.data.options import DataOptions
from kamerton.data.validation import read_examples, validate
from support.rows import write_jsonl

ANN, BOB = {"speaker": "Ann", "text": "How many?"}, {"speaker": "Bob", "text": "Three."}
ROWS: dict[str, dict[str, Any]] = {
    "shp": {"history": "How many?", "human_ref_A": "No.", "human_ref_B": "Three.", "labels": 0},
    "mt-bench": {"question_id": 1, "turns": ["Where?", "How many?"], "reference": ["Here.", "Three."]},
    "mt-bench on the hub": {"prompt_id": 1, "prompt": ["Where?", "How many?"], "reference": ["Here.", "Three."]},
    "multiwoz": {
        "turns": [{"speaker": "USER", "utterance": "How many?"}, {"speaker": "SYSTEM", "utterance": "Three."}]
    },
    "intents": {"tag": "Three.", "patterns": ["How many?"], "responses": ["3"]},
    "utterances": {"conv_id": "a", "utterance_idx": 1, "speaker_idx": 7, "utterance": "How many?"},
    "speakers": {"dialog": [ANN, BOB]},
}
NOVA = {
    "system": [{"text": "Be short."}],
    "messages": [
        {"role": "user", "content": [{"text": "How many?"}]},
        {
            "role": "assistant",
            "candidates": [
                {"content": [{"text": "No."}], "preferenceLabel": "non-preferred"},
                {"content": [{"text": "Three."}], "preferenceLabel": "preferred"},
            ],
        },
    ],
}
BFCL = {
    "id": "a",
    "question": [[{"role": "user", "content": "How many?"}]],
    "function": [{"name": "count", "parameters": {"type": "dict", "properties": {"n": {"type": "float"}}}}],
}


def convert(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the command of the file's only fault; return the new file."""
    monkeypatch.chdir(path.parent)
    (fault,) = validate(DataOptions(path=str(path))).errors
    match = re.search(r"(jq .*?), then data\.path=([^\s;]+)", fault.fix)
    assert match is not None, fault.fix
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    subprocess.run(match[1], shell=True, check=True)
    return match[2]


def converted(path: Path, monkeypatch: pytest.MonkeyPatch) -> DataExample:
    """The first row of the converted file."""
    return next(iter(read_examples(DataOptions(path=convert(path, monkeypatch)))))


@pytest.mark.parametrize("name", ROWS)
def test_the_command_of_the_fault_converts_the_rows(tmp_path: Path, name: str, monkeypatch: Any) -> None:
    second = ROWS[name] | ({"speaker_idx": 8, "utterance": "Three."} if name == "utterances" else {})
    example = converted(write_jsonl(tmp_path / "my rows.jsonl", [ROWS[name], second]), monkeypatch)
    prompt = example.prompt if isinstance(example.prompt, str) else example.prompt[-1].content
    assert (prompt, example.completion) == ("How many?", "Three.")


def test_an_object_of_questions_with_answers_is_converted(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({f"How many are {i}?": f"{i} mills" for i in range(30)}))
    example = converted(path, monkeypatch)
    assert (example.prompt, example.completion) == ("How many are 0?", "0 mills")


def test_segments_that_are_all_trained_on_become_a_text(tmp_path: Path, monkeypatch: Any) -> None:
    row = {"segments": [{"label": True, "text": "How "}, {"label": True, "text": "many?"}]}
    assert converted(write_jsonl(tmp_path / "rows.jsonl", [row] * 2), monkeypatch).completion == "How many?"


def test_questions_with_functions_are_joined_with_their_calls(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "possible_answer").mkdir()
    calls = [{"count": {"n": [3, "three"], "unit": ["", "mills"]}}]
    write_jsonl(tmp_path / "possible_answer" / "BFCL.jsonl", [{"id": "a", "ground_truth": calls}])
    example = converted(write_jsonl(tmp_path / "BFCL.jsonl", [BFCL] * 2), monkeypatch)
    assert [(call.name, call.arguments) for call in example.tool_calls] == [("count", '{"n": 3}')]
    assert '"type": "object", "properties": {"n": {"type": "number"}}' in example.tools


ASKED = {"question_id": 81, "category": "writing", "turns": ["Where?", "How many?"]}
SAID = {"question_id": 81, "answer_id": "a", "model_id": "m", "choices": [{"index": 0, "turns": ["Here.", "Three."]}]}


@pytest.mark.parametrize("given", ["question.jsonl", "model_answer/m.jsonl"])
def test_questions_of_mt_bench_are_joined_with_the_answers_of_a_model(
    tmp_path: Path, given: str, monkeypatch: Any
) -> None:
    (tmp_path / "model_answer").mkdir()
    write_jsonl(tmp_path / "question.jsonl", [ASKED, {**ASKED, "question_id": 82}])
    write_jsonl(tmp_path / "model_answer" / "m.jsonl", [SAID, {**SAID, "question_id": 83}])
    example = converted(tmp_path / given, monkeypatch)
    assert [turn.content for turn in example.messages] == ["Where?", "Here.", "How many?", "Three."]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question_id": 1, "turns": ["Where?", "How many?"], "reference": []}, "without answers"),
        ({"prompt": [{"role": "user", "content": "How many?"}]}, "prompts alone"),
        ({"messages": [{"role": "user", "content": "How many?"}]}, "a prompt without an answer"),
    ],
)
def test_questions_without_answers_are_one_fault(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    fault = validate(DataOptions(path=str(write_jsonl(tmp_path / "rows.jsonl", [row] * 3)))).errors[0]
    assert message in fault.message


def test_the_better_candidates_of_nova_are_answers(tmp_path: Path, monkeypatch: Any) -> None:
    path = write_jsonl(tmp_path / "nova.jsonl", [NOVA] * 2)
    assert "objective=dpo" in validate(DataOptions(path=str(path))).errors[0].fix
    example = converted(path, monkeypatch)
    assert [turn.content for turn in example.messages] == ["Be short.", "How many?", "Three."]


@pytest.mark.parametrize(
    ("annotations", "completion"),
    [
        ({"cats": {"ORG": 0.0, "PLACE": 1.0}}, "PLACE"),
        ({"entities": [[0, 4, "ORG"], [8, 12, "PLACE"]]}, "ORG: Uber\nPLACE: Oslo"),
    ],
)
def test_arrays_of_spacy_are_converted(annotations: Any, completion: str, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([["Uber in Oslo", annotations]] * 3))
    example = converted(tmp_path / "rows.json", monkeypatch)
    assert (example.prompt, example.completion) == ("Uber in Oslo", completion)
