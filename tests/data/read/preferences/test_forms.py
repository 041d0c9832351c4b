"""Every form of preference data, by value: the prompt, and each completion with its score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kamerton.data.example import DataExample
from kamerton.data.options import Columns, DataOptions
from kamerton.data.read.preferences.sides import prompt_length
from kamerton.data.validation import read_examples
from kamerton.errors import Fault, UserError
from support.rows import write_jsonl

Row = dict[str, Any]
PAIR = [("Yes.", 1.0), ("No.", 0.0)]
QUESTION = {"role": "user", "content": "Is it?"}
SYSTEM = {"role": "system", "content": "Be kind."}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def said(content: str, **more: Any) -> Row:
    return {"role": "assistant", "content": content, **more}


def human(text: str, name: str = "human") -> Row:
    return {"from": name, "value": text}


def read(tmp_path: Path, row: Row, rows: str = "preferences", **options: Any) -> DataExample:
    path = write_jsonl(tmp_path / "rows.jsonl", [row])
    (example,) = read_examples(DataOptions(path=str(path), rows=rows, **options))
    return example


def turns(example: DataExample) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in example.messages[:-1]]


def completions(example: DataExample) -> list[tuple[str, float | None]]:
    others = [(other.completion, other.score) for other in example.alternatives]
    return [(example.completion, example.score), *others]


def faults(tmp_path: Path, *rows: Row, kind: str = "preferences", **options: Any) -> list[Fault]:
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(UserError) as error:
        list(read_examples(DataOptions(path=str(path), rows=kind, **options)))
    return [fault for fault in error.value.faults if fault.severity == "error"]


USER = [("user", "Is it?")]
KIND = [("system", "Be kind."), *USER]
EARLIER = [("user", "Hello"), ("assistant", "Hi"), *USER]
FORMS: dict[str, tuple[Row, list[tuple[str, str]]]] = {
    "TRL, explicit prompt": ({"prompt": "Is it?", "chosen": "Yes.", "rejected": "No."}, USER),
    "TRL, turns": ({"prompt": [SYSTEM, QUESTION], "chosen": [said("Yes.")], "rejected": [said("No.")]}, KIND),
    "TRL, implicit turns": ({"chosen": [QUESTION, said("Yes.")], "rejected": [QUESTION, said("No.")]}, USER),
    "TRL, prompt again in the turns": (
        {"prompt": [QUESTION], "chosen": [QUESTION, said("Yes.")], "rejected": [QUESTION, said("No.")]},
        USER,
    ),
    "TRL, text before turns": ({"prompt": "Is it?", "chosen": [said("Yes.")], "rejected": said("No.")}, USER),
    "UltraFeedback, binarised": (
        {
            "prompt": "Is it?",
            "prompt_id": "a",
            "messages": [QUESTION, said("Yes.")],
            "score_chosen": 8.5,
            "chosen": [QUESTION, said("Yes.")],
            "rejected": [QUESTION, said("No.")],
            "score_rejected": 3.0,
        },
        USER,
    ),
    "HH-RLHF": (
        {
            "chosen": "\n\nHuman: Hello\n\nAssistant: Hi\n\nHuman: Is it?\n\nAssistant: Yes.",
            "rejected": "\n\nHuman: Hello\n\nAssistant: Hi\n\nHuman: Is it?\n\nAssistant: No.",
        },
        EARLIER,
    ),
    "HH-RLHF, explicit prompt": (
        {"prompt": "\n\nHuman: Is it?\n\nAssistant:", "chosen": "Yes.", "rejected": "No."},
        USER,
    ),
    "OpenAI": (
        {
            "input": {"messages": [SYSTEM, QUESTION], "tools": [TOOL], "parallel_tool_calls": True},
            "preferred_output": [said("Yes.")],
            "non_preferred_output": [said("No.")],
        },
        KIND,
    ),
    "LLaMA-Factory, ShareGPT": (
        {"conversations": [human("Is it?")], "chosen": human("Yes.", "gpt"), "rejected": human("No.", "gpt")},
        USER,
    ),
    "LLaMA-Factory, Alpaca": (
        {
            "instruction": "Is it?",
            "input": "",
            "chosen": "Yes.",
            "rejected": "No.",
            "system": "Be kind.",
            "history": [],
        },
        KIND,
    ),
    "LLaMA-Factory, Alpaca with history": (
        {"instruction": "Is it?", "chosen": "Yes.", "rejected": "No.", "history": [["Hello", "Hi"]]},
        EARLIER,
    ),
    "LLaMA-Factory, content parts": (
        {
            "chosen_messages": [QUESTION, said([{"type": "text", "value": "Yes."}])],  # type: ignore[arg-type]
            "rejected_messages": [QUESTION, said("No.")],
        },
        USER,
    ),
    "Orca": ({"system": "Be kind.", "question": "Is it?", "chosen": "Yes.", "rejected": "No."}, KIND),
    "Aya": ({"prompt": "Is it?", "accepted": "Yes.", "rejected": "No."}, USER),
    "other case": ({"Prompt": "Is it?", "Chosen": "Yes.", "Rejected": "No."}, USER),
    "SHP": ({"history": "Is it?", "human_ref_A": "No.", "human_ref_B": "Yes.", "labels": 0, "score_A": 3}, USER),
    "Arena": (
        {"conversation_a": [QUESTION, said("No.")], "conversation_b": [QUESTION, said("Yes.")], "winner": "model_b"},
        USER,
    ),
    "PKU": ({"prompt": "Is it?", "response_0": "No.", "response_1": "Yes.", "better_response_id": 1}, USER),
}


@pytest.mark.parametrize("name", FORMS)
def test_pairs_of_every_form(name: str, tmp_path: Path) -> None:
    row, before = FORMS[name]
    example = read(tmp_path, row)
    assert turns(example) == before
    assert completions(example) == PAIR


SCORED: dict[str, tuple[str, Row, list[tuple[str, float]]]] = {
    "scores": (
        "preferences",
        {"prompt": "Is it?", "completions": ["b", "a", "c"], "scores": [2, 5.5, 2]},
        [("a", 5.5), ("b", 2), ("c", 2)],
    ),
    "ranks": ("preferences", {"prompt": "Is it?", "responses": ["b", "a"], "ranks": [2, 1]}, [("a", -1), ("b", -2)]),
    "UltraFeedback": (
        "preferences",
        {
            "instruction": "Is it?",
            "completions": [
                {"model": "m", "response": "b", "overall_score": 4.0},
                {"model": "n", "response": "a", "overall_score": 8.5},
            ],
        },
        [("a", 8.5), ("b", 4.0)],
    ),
    "Nectar": (
        "preferences",
        {
            "prompt": "\n\nHuman: Is it?\n\nAssistant: ",
            "answers": [{"answer": "a", "model": "m", "rank": 1.0}, {"answer": "b", "model": "n", "rank": 2.0}],
        },
        [("a", -1), ("b", -2)],
    ),
    "judged, TRL": ("judgements", {"prompt": "Is it?", "completion": "Yes.", "label": True}, [("Yes.", 1.0)]),
    "judged, TRL, turns": (
        "judgements",
        {"prompt": [QUESTION], "completion": [said("Yes.")], "label": False},
        [("Yes.", 0.0)],
    ),
    "judged by numbers": ("judgements", {"prompt": "Is it?", "completion": "Yes.", "label": 0}, [("Yes.", 0.0)]),
    "judged by texts": ("judgements", {"question": "Is it?", "answer": "Yes.", "label": "True"}, [("Yes.", 1.0)]),
    "judged, LLaMA-Factory": (
        "judgements",
        {"conversations": [human("Is it?"), human("Yes.", "gpt")], "kto_tag": False},
        [("Yes.", 0.0)],
    ),
    "judged, messages": ("judgements", {"messages": [QUESTION, said("Yes.")], "label": True}, [("Yes.", 1.0)]),
}


@pytest.mark.parametrize("name", SCORED)
def test_completions_keep_their_scores(name: str, tmp_path: Path) -> None:
    rows, row, expected = SCORED[name]
    example = read(tmp_path, row, rows)
    assert turns(example) == USER
    assert completions(example) == expected


def test_objective_kto_takes_pairs(tmp_path: Path) -> None:
    assert completions(read(tmp_path, FORMS["OpenAI"][0], "judgements")) == PAIR


def test_named_columns(tmp_path: Path) -> None:
    row = {"q": "Is it?", "good": "Yes.", "bad": "No.", "prompt": "another"}
    columns = Columns(prompt="q", chosen="good", rejected="bad", metadata=["prompt"])
    example = read(tmp_path, row, columns=columns)
    assert turns(example) == USER
    assert completions(example) == PAIR
    assert example.metadata == {"prompt": "another"}
    judged = read(tmp_path, {"q": "Is it?", "a": "Yes.", "ok": 1}, "judgements", columns=Columns("q", "a", "ok"))
    assert completions(judged) == [("Yes.", 1.0)]


def test_prompts_are_written_by_templates(tmp_path: Path) -> None:
    row = {"context": "It is.", "question": "Is it?", "chosen": "Yes.", "rejected": "No."}
    example = read(tmp_path, row, prompt="{context}\\n{question}", system="Be kind.")
    assert turns(example) == [("system", "Be kind."), ("user", "It is.\nIs it?")]
    assert completions(example) == PAIR


def test_the_input_of_alpaca_is_part_of_the_prompt(tmp_path: Path) -> None:
    row = {"instruction": "Is it?", "input": "A mill.", "chosen": "Yes.", "rejected": "No."}
    example = read(tmp_path, row)
    assert turns(example) == [("user", "Is it?\n\nA mill.")]
    assert "input" not in example.metadata


def test_implicit_prompt_of_texts(tmp_path: Path) -> None:
    """By value as TRL's extract_prompt: a space before the first difference belongs to the completions."""
    example = read(tmp_path, {"chosen": "The sky is blue.", "rejected": "The sky is green."})
    assert turns(example) == [("user", "The sky is")]
    assert completions(example) == [(" blue.", 1.0), (" green.", 0.0)]


@pytest.mark.parametrize(
    ("first", "second", "prompt"),
    [
        ("Is it? Yes", "Is it? No", "Is it?"),
        ("The sky is bl", "The sky is br", "The sky is b"),
        ("Is it? Yes", "Is it? Yes, but", "Is it?"),  # one continues the other
        ("Yes", "No", ""),
        ("Yes", "Yes!", ""),
    ],
)
def test_length_of_an_implicit_prompt(first: str, second: str, prompt: str) -> None:
    assert first[: prompt_length(first, second)] == prompt


def test_calls_reasoning_and_functions(tmp_path: Path) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    row = {
        "input": {"messages": [QUESTION], "tools": [TOOL]},
        "preferred_output": [{"role": "assistant", "content": None, "tool_calls": [call]}],
        "non_preferred_output": [said("No.", reasoning_content="I guess.")],
    }
    example = read(tmp_path, row)
    assert [call.name for call in example.tool_calls] == ["look"]
    assert json.loads(example.tools)[0]["function"]["name"] == "look"
    assert example.alternatives[0].reasoning == "I guess."


BAD: dict[str, tuple[Row, str, str]] = {
    "the same": ({"prompt": "Is it?", "chosen": "Yes.", "rejected": "Yes."}, "bad-preference", "rejected"),
    "a tie": (
        {"prompt": "Is it?", "response_a": "Yes.", "response_b": "No.", "winner": "tie"},
        "bad-preference",
        "response_a",
    ),
    "no such winner": (
        {"prompt": "Is it?", "response_a": "Yes.", "response_b": "No.", "winner": "c"},
        "bad-preference",
        "winner",
    ),
    "other turns before": (
        {"chosen": [QUESTION, said("Yes.")], "rejected": [SYSTEM, QUESTION, said("No.")]},
        "bad-preference",
        "rejected",
    ),
    "too few scores": ({"prompt": "Is it?", "completions": ["a", "b"], "scores": [1]}, "bad-preference", "scores"),
    "a score that is not a number": (
        {"prompt": "Is it?", "completions": ["a", "b"], "scores": [1, "N/A"]},
        "bad-preference",
        "scores",
    ),
    "one completion": ({"prompt": "Is it?", "completions": ["a"], "scores": [1]}, "bad-preference", "completions"),
    "an empty side": ({"prompt": "Is it?", "chosen": "Yes.", "rejected": " "}, "empty-field", "rejected"),
    "nothing in common": ({"chosen": "Yes.", "rejected": "No."}, "bad-preference", "chosen"),
    "a bad turn of the prompt": (
        {
            "input": {"messages": [{"role": "x", "content": "Is it?"}]},
            "preferred_output": [said("Yes.")],
            "non_preferred_output": [said("No.")],
        },
        "bad-messages",
        "input.messages[0].role",
    ),
    "a bad turn of a side": (
        {
            "input": {"messages": [QUESTION]},
            "preferred_output": [said("Yes.")],
            "non_preferred_output": [{"role": "x", "content": "No."}],
        },
        "bad-messages",
        "non_preferred_output[0].role",
    ),
    "a number in a text": ({"prompt": "Is it?", "chosen": 3, "rejected": "No."}, "not-a-string", "chosen"),
}


@pytest.mark.parametrize("name", BAD)
def test_faults_have_the_place_in_the_row(name: str, tmp_path: Path) -> None:
    row, code, column = BAD[name]
    (fault,) = faults(tmp_path, row)
    assert (fault.code, fault.column, fault.row) == (code, column, 1)
    assert fault.fix


@pytest.mark.parametrize(
    ("kind", "has_label", "column", "fix"),
    [
        ("preferences", False, "chosen", "objective=sft"),
        ("judgements", False, "label", "label"),
        ("preferences", True, "label", "objective=kto"),
    ],
)
def test_data_of_another_form_is_one_fault(kind: str, has_label: bool, column: str, fix: str, tmp_path: Path) -> None:
    label = [{"label": bool(i % 2)} if has_label else {} for i in range(30)]
    rows = [{"prompt": f"Is it {i}?", "completion": "Yes.", **label[i]} for i in range(30)]
    (fault,) = faults(tmp_path, *rows, kind=kind)
    assert (fault.code, fault.column, fault.row) == ("missing-field", column, None)
    assert fix in fault.fix


def test_a_row_of_another_form_is_reported_by_its_row(tmp_path: Path) -> None:
    rows = [{"prompt": f"Is it {i}?", "chosen": "Yes.", "rejected": "No."} for i in range(3)]
    (fault,) = faults(tmp_path, *rows, {"prompt": "Is it?", "completion": "Yes."})
    assert (fault.code, fault.row) == ("missing-field", 4)


def test_judgement_that_is_no_truth_value(tmp_path: Path) -> None:
    row = {"prompt": "Is it?", "completion": "Yes.", "label": "perhaps"}
    (fault,) = faults(tmp_path, row, kind="judgements")
    assert (fault.code, fault.column) == ("bad-preference", "label")


@pytest.mark.parametrize("key", ["chosen", "prompt"])
def test_unknown_columns_are_one_fault(key: str, tmp_path: Path) -> None:
    rows = [{"prompt": f"Is it {i}?", "chosen": "Yes.", "rejected": "No."} for i in range(30)]
    (fault,) = faults(tmp_path, *rows, columns=Columns(**{key: f"{key}s"}))
    assert fault.code == "unknown-column"
    assert f"data.columns.{key}={key}" in fault.fix
