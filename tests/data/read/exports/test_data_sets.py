"""Rows of annotation programs, evals and data sets with a form of their own are read as prompt and completion."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kamerton.data.options import Columns, DataOptions, SplitOptions
from kamerton.data.validation import read_examples, validate
from kamerton.errors import UserError
from support.rows import write_jsonl

ALL = SplitOptions(ratios=[1, 0, 0])
USER, ANSWER = {"role": "user", "content": "How many?"}, {"role": "assistant", "content": "Three."}
OPTIONS = [{"id": "g", "text": "Good"}, {"id": "b", "text": "Bad"}]
PRODIGY = {"text": "How many?", "_input_hash": 1, "_task_hash": 2, "answer": "accept"}
MIN = {"annotator": 1, "annotation_id": 2, "lead_time": 3.5, "created_at": "2024-01-01", "id": 4}
ARGILLA = {"prediction": None, "status": "Validated", "annotation_agent": "a", "multi_label": False}
TREE = {
    "text": "How many?",
    "role": "prompter",
    "replies": [
        {"text": "None.", "role": "assistant", "rank": 1, "replies": []},
        {"text": "Three.", "role": "assistant", "rank": 0, "replies": [{"text": "Why?", "role": "prompter"}]},
    ],
}
ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "batch": ({"custom_id": "a", "method": "POST", "url": "/v1", "body": {"messages": [USER, ANSWER]}}, "Three."),
    "evals": ({"input": [USER], "ideal": ["Three.", "3"]}, "Three."),
    "items": ({"item": {"question": "How many?", "answer": "Three."}}, "Three."),
    "viewer": ({"row_idx": 0, "row": {"question": "How many?", "answer": "Three."}, "truncated_cells": []}, "Three."),
    "promptfoo": ({"vars": {"question": "How many?"}, "assert": [{"type": "equals", "value": "Three."}]}, "Three."),
    "tree": ({"message_tree_id": "t", "prompt": TREE}, "Three."),
    "prodigy options": ({**PRODIGY, "options": OPTIONS, "accept": ["b"]}, "Bad"),
    "prodigy label": ({**PRODIGY, "label": "GOOD"}, "GOOD"),
    "argilla 1": ({"text": "How many?", "annotation": "Good", **ARGILLA}, "Good"),
    "label studio": ({"text": "How many?", "sentiment": "Good", **MIN}, "Good"),
    "moss": (
        {
            "meta_instruction": "Be brief.",
            "chat": {
                "turn_1": {
                    "Human": "<|Human|>: How many?<eoh>\n",
                    "Inner Thoughts": "<|Inner Thoughts|>: None<eot>\n",
                    "Commands": "<|Commands|>: None<eoc>\n",
                    "MOSS": "<|MOSS|>: Three.<eom>\n",
                }
            },
        },
        "Three.",
    ),
    "baize": (
        {"topic": "mills", "input": "A chat.\n[|Human|] How many?\n[|AI|] Three.\n[|Human|] "},
        "Three.",
    ),
    "persona": (
        {"personality": ["I mill."], "history": ["Hi.", "Hello.", "How many?"], "candidates": ["No.", "Three."]},
        "Three.",
    ),
    "phoenix": ({"attributes.input.value": "How many?", "attributes.output.value": "Three."}, "Three."),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_row_is_read(gate: Any, name: str) -> None:
    row, completion = ROWS[name]
    (example,) = gate([row] * 2, ALL).splits["train"]
    prompt = example.prompt if isinstance(example.prompt, str) else example.prompt[-1].content
    assert (prompt, example.completion) == ("How many?", completion)


def test_single_messages_are_joined_and_the_others_counted(gate: Any) -> None:
    def message(name: str, parent: str | None, role: str, rank: int | None = None) -> dict[str, Any]:
        return {"message_id": name, "parent_id": parent, "text": f"This is {name}.", "role": role, "rank": rank}

    rows = [message("a", None, "prompter"), message("b", "a", "assistant", 1), message("c", "a", "assistant", 0)]
    rows += [message("d", "c", "prompter"), message("e", "d", "assistant", 0), message("f", "e", "prompter")]
    prepared = gate([*rows, message("a", "a", "assistant", 3)], ALL)
    (example,) = prepared.splits["train"]
    assert [turn.content for turn in example.prompt] == ["This is a.", "This is c.", "This is d."]
    assert example.completion == "This is e."
    (warning,) = [fault for fault in prepared.report["warnings"] if fault["code"] == "not-read"]
    assert warning["message"].startswith("3 of 7 messages")


def test_calls_of_glaive_are_read_with_their_functions(gate: Any) -> None:
    definition = {"name": "count", "description": "Counts", "parameters": {"type": "object", "properties": {"n": {}}}}
    chat = (
        'USER: How many?\n\n\nASSISTANT: <functioncall> {"name": "count", "arguments": \'{"n": 3}\'} <|endoftext|>'
        '\n\n\nFUNCTION RESPONSE: {"mills": 3}\n\n\nASSISTANT: Three. <|endoftext|>'
    )
    system = (
        f"SYSTEM: You help, with access to the following functions. Use them if required -\n{json.dumps(definition)}"
    )
    (example,) = gate([{"system": system, "chat": chat}], ALL).splits["train"]
    assert [turn.role for turn in example.prompt] == ["system", "user", "assistant", "tool"]
    assert [(call.name, call.arguments) for call in example.prompt[2].tool_calls] == [("count", '{"n": 3}')]
    assert (example.completion, json.loads(example.tools)[0]["function"]["name"]) == ("Three.", "count")


@pytest.mark.parametrize(
    "row",
    [
        {**PRODIGY, "label": "GOOD", "answer": "reject"},
        {**PRODIGY, "spans": [{"points": [[0, 3]], "label": "WORD"}]},
        {"custom_id": "a", "body": {"messages": [USER]}},
        {"text": "How many?", "annotation": [["WORD", 0, 3]], **ARGILLA},
    ],
)
def test_a_row_without_an_answer_is_one_fault_of_its_file(gate: Any, row: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        gate([row] * 8, ALL)
    (fault,) = caught.value.faults
    assert fault.code == "bad-export"
    assert "(8 rows)" in fault.message


def test_earlier_answers_of_a_persona_are_those_of_other_rows(gate: Any) -> None:
    (example,) = gate([ROWS["persona"][0]], ALL).splits["train"]
    turns = [(turn.role, turn.content, turn.weight) for turn in example.prompt]
    assert turns[:3] == [("system", "I mill.", 1), ("user", "Hi.", 1), ("assistant", "Hello.", 0)]


def test_commands_of_moss_are_a_fault_of_their_rows(gate: Any) -> None:
    row = ROWS["moss"][0]
    turn = {**row["chat"]["turn_1"], "Commands": '<|Commands|>: Search("mills")<eoc>'}
    prepared = gate([row, {**row, "chat": {"turn_1": turn}}], ALL, policy={"bad-export": "drop"})
    assert [len(prepared.splits["train"]), prepared.report["rejected"]["bad-export"]] == [1, 1]


def test_marked_parts_of_prodigy_are_the_answer_by_a_setting(gate: Any, codes: Any) -> None:
    spans = [{"start": 4, "end": 8, "label": "SIZE"}]
    rows = [{**PRODIGY, "spans": spans}, {**PRODIGY, "text": "What?", "spans": []}]
    assert codes(rows) == {"unclear-columns"}
    examples = gate(rows, ALL, completion="{entities:json}").splits["train"]
    assert {example.completion for example in examples} == {'[{"text": "many", "label": "SIZE"}]', "[]"}


def words(sentence: str, *tagged: str) -> list[dict[str, str]]:
    pairs = [text.split("/") for text in tagged]
    return [
        {"Sentence #": sentence if place == 0 else "", "Word": word, "Tag": tag}
        for place, (word, tag) in enumerate(pairs)
    ]


def test_a_table_of_words_is_read_by_sentences(gate: Any) -> None:
    rows = [*words("1", "Ann/B-per", "mills/O"), *words("2", "In/O", "Oslo/B-geo"), *words("3", "Bye/O")]
    prepared = gate(rows, ALL, prompt="{tokens:words}", completion="{tags:list}")
    pairs = {(example.prompt, example.completion) for example in prepared.splits["train"]}
    assert pairs == {("Ann mills", "B-per, O"), ("In Oslo", "O, B-geo"), ("Bye", "O")}


def test_a_table_of_words_whose_columns_are_named_is_read_by_rows(gate: Any) -> None:
    rows = [*words("1", "Ann/B-per", "mills/O"), *words("2", "In/O", "Oslo/B-geo")]
    prepared = gate(rows, ALL, columns=Columns(prompt="Word", completion="Tag"))
    assert len(prepared.splits["train"]) == 4


def test_half_of_a_batch_names_the_command_with_its_own_file(tmp_path: Path) -> None:
    request = {"custom_id": "a", "method": "POST", "url": "/v1", "body": {"messages": [USER]}}
    path = write_jsonl(tmp_path / "my requests.jsonl", [request] * 2)
    fault = validate(DataOptions(path=str(path))).errors[0]
    match = re.search(r"(jq .*), then data.path=rows.jsonl", fault.fix)
    assert match is not None, fault.fix
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    answer = {"custom_id": "a", "response": {"body": {"choices": [{"message": ANSWER}]}}}
    write_jsonl(tmp_path / "OUTPUT.jsonl", [answer])
    subprocess.run(match[1], shell=True, check=True, cwd=tmp_path)
    rows = read_examples(DataOptions(path=str(tmp_path / "rows.jsonl")))
    assert [example.completion for example in rows] == ["Three.", "Three."]


def turn(conversation: int, role: str, text: str) -> dict[str, Any]:
    return {"conversation_id": conversation, "role": role, "content": text, "created_at": "2024-01-01"}


TURNS = [turn(1, "user", "How many?"), turn(1, "assistant", "Three."), turn(2, "user", "Why?"), turn(2, "bot", "So.")]


def test_a_table_of_turns_is_read_by_conversations(gate: Any) -> None:
    examples = gate(TURNS, ALL).splits["train"]
    assert {(example.prompt[0].content, example.completion) for example in examples} == {
        ("How many?", "Three."),
        ("Why?", "So."),
    }
    named = gate(TURNS, ALL, columns=Columns(prompt="role", completion="content"))
    assert len(named.splits["train"]) == 4


def test_calls_of_single_turns_are_read_and_turns_with_labels_are_not_joined(gate: Any, codes: Any) -> None:
    calls = [{"id": "a", "type": "function", "function": {"name": "count", "arguments": "{}"}}]
    rows = [turn(1, "user", "How many?"), {**turn(1, "assistant", ""), "tool_calls": calls}]
    (example,) = gate(rows, ALL).splits["train"]
    assert [call.name for call in example.tool_calls] == ["count"]
    assert codes([{**row, "intent": f"to {i % 2}"} for i, row in enumerate(TURNS)], ALL) == {"missing-field"}


def test_turns_that_are_not_one_after_another_are_a_fault(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [*TURNS, turn(1, "user", "Where?")])
    (fault,) = validate(DataOptions(path=str(path)), ALL).errors
    assert (fault.code, fault.column) == ("bad-export", "conversation_id")
    assert "row 5" in fault.message
