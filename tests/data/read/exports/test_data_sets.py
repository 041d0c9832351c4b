"""Rows of annotation programs, evals and data sets with a form of their own are read as prompt and completion."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kamerton.data.options import SplitOptions
from kamerton.errors import UserError

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
        {**PRODIGY, "spans": [{"start": 0, "end": 3, "label": "WORD"}]},
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
