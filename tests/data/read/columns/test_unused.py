"""Columns and turn fields that the model is not shown: listed, warned of, or refused, with a way on that works."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kamerton.data.gate import Prepared, prepare
from kamerton.data.options import Columns, DataOptions, SplitOptions
from kamerton.data.read.columns.unused import list_counts
from kamerton.data.summary import describe_schema
from kamerton.data.validation import ValidationResult, read_examples, validate
from kamerton.errors import Fault, UserError
from support.rows import question, write_jsonl
from support.settings import data_options, settings_of

Row = dict[str, Any]
SENTENCE = "Record 3 of the parish counts 11 mills in 1700."
TOOL = {"type": "function", "function": {"name": "count_mills"}}


def pair(i: int, **more: Any) -> Row:
    return {"question": question(i), "answer": f"{i} mills", **more}


def chat(i: int, answer: Row | None = None, **more: Any) -> Row:
    turns = [{"role": "user", "content": question(i)}, {"role": "assistant", "content": f"{i} mills", **(answer or {})}]
    return {"messages": turns, **more}


def result(tmp_path: Path, rows: list[Row], split: SplitOptions | None = None, **options: Any) -> ValidationResult:
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    return validate(DataOptions(path=str(path), near_duplicates=None, **options), split)


def of_code(faults: list[Fault]) -> list[Fault]:
    return [fault for fault in faults if fault.code == "unused-field"]


MISLEADING: dict[str, Callable[[int], Row]] = {
    "rejected": lambda i: {"prompt": question(i), "response": f"{i} mills", "rejected": "no"},
    "label": lambda i: {"prompt": question(i), "completion": f"{i}", "label": i % 2 == 1},
    "kto_tag": lambda i: chat(i, kto_tag="False"),
    "images": lambda i: chat(i, images=["0.jpg"]),
    "Videos": lambda i: pair(i, Videos=["0.mp4"]),
    "audio": lambda i: pair(i, audio={"path": "a.wav", "bytes": None}),
    "tools": lambda i: {"text": question(i), "tools": [TOOL]},
    "reasoning": lambda i: {"text": question(i), "reasoning": "because"},
    "weight": lambda i: pair(i, weight=3),
    "messages[].images": lambda i: chat(i, {"images": ["0.jpg"]}),
    "messages[].content.image_url": lambda i: chat(
        i, {"content": [{"type": "image_url"}, {"type": "text", "text": "a"}]}
    ),
    "messages[].content.image": lambda i: chat(
        i, {"content": [{"type": "tool_result", "content": [{"type": "image"}]}, {"type": "text", "text": "a"}]}
    ),
    "messages[].content.thinking": lambda i: chat(
        i, {"content": [{"type": "thinking"}, {"type": "text", "text": "a"}]}
    ),
    "messages[].train_detail": lambda i: chat(
        i, {"train_detail": [{"begin_offset": 0, "end_offset": 1, "train": False}]}
    ),
    "system": lambda i: {"text": question(i), "system": "Answer in Latin."},
    "history": lambda i: {"text": question(i), "history": [["And?", "So."]]},
    "sentiment": lambda i: {"text": question(i), "sentiment": "good"},
    "labels": lambda i: {"text": question(i), "labels": i % 3},
}


@pytest.mark.parametrize("value", ["on", "off", True])
def test_a_column_that_says_if_there_is_reasoning_is_not_the_reasoning(tmp_path: Path, value: object) -> None:
    answer = {"role": "assistant", "content": "<think>Hm.</think>Yes."}
    rows = [{"messages": [{"role": "user", "content": question(i)}, answer], "reasoning": value} for i in range(30)]
    example = next(iter(read_examples(DataOptions(path=str(write_jsonl(tmp_path / "rows.jsonl", rows))))))
    assert (example.reasoning, example.completion, example.metadata) == ("Hm.", "Yes.", {"reasoning": value})


@pytest.mark.parametrize("name", MISLEADING)
def test_rows_that_mean_something_else_are_one_error_that_names_the_field(tmp_path: Path, name: str) -> None:
    rows = [MISLEADING[name](i) for i in range(30)]
    results = result(tmp_path, rows)
    (fault,) = results.errors
    count = 15 if name == "label" else 30
    assert (fault.code, fault.column, fault.row) == ("unused-field", name, 1)
    assert f"{name} ({count} rows)" in fault.message
    assert results.report["unused"][name] == 30


@pytest.mark.parametrize("name", MISLEADING)
def test_some_of_these_rows_are_left_out_by_the_policy(tmp_path: Path, name: str) -> None:
    plain = (
        {"text": SENTENCE} if "text" in MISLEADING[name](0) else chat(99) if "messages" in MISLEADING[name](0) else None
    )
    rows = [MISLEADING[name](i) for i in range(30)]
    clean = [plain or {k: v for k, v in MISLEADING[name](i).items() if k != name} for i in range(100, 101)]
    results = result(tmp_path, [*rows, *clean], SplitOptions(ratios=[1, 0, 0]), policy={"unused-field": "drop"})
    assert results.is_valid, results.errors
    assert results.report["rejected"]["unused-field"] == (15 if name == "label" else 30)
    refused = result(tmp_path, [*rows, *clean])
    assert "data.policy.unused-field=drop" in of_code(refused.errors)[0].fix


@pytest.mark.parametrize(
    "name", ["rejected", "label", "tools", "reasoning", "system", "history", "sentiment", "labels"]
)
def test_the_settings_of_a_fix_work(tmp_path: Path, name: str) -> None:
    rows = [MISLEADING[name](i) for i in range(30)]
    (fault,) = result(tmp_path, rows).errors
    ways = [way for way in settings_of(fault.fix) if "NAME" not in str(way) and "policy" not in str(way)]
    assert len(ways) == (3 if name in ("sentiment", "labels") else 1)
    for way in ways:
        results = result(tmp_path, rows, **data_options(way))
        assert results.is_valid, (way, results.errors)
        assert not of_code(results.warnings)


@pytest.mark.parametrize(
    "row",
    [
        lambda i: chat(
            i, {"refusal": None, "tool_calls": None, "function_call": None, "reasoning_content": ""}, tools=[]
        ),
        lambda i: chat(i, images=[], history=[], system=" ", tools="[]"),
        lambda i: pair(i, rejected=None, context="", images=[None], label=None),
        lambda i: pair(i, label=True, train=True, loss_weight=1),
        lambda i: pair(i, id=i, source="web", url="https://a.b/c", category="closed_qa", meta={"score": 1}, tags=["a"]),
        lambda i: pair(i, metadata={"note": SENTENCE}),
        lambda i: pair(i, text=f"### Q\n{question(i)}\n### A\n{i} mills"),
        lambda i: chat(i, prompt=question(i)),
        lambda i: {"instruction": question(i), "input": "", "output": f"{i} mills"},
        lambda i: {
            "text": question(i),
            "url": "https://a.b",
            "title": "A b",
            "timestamp": "2026-01-01",
            "language_score": 0.9,
        },
        lambda i: {
            "conversations": [{"from": "human", "value": question(i)}, {"from": "gpt", "value": "b"}],
            "id": f"{i}",
        },
    ],
)
def test_empty_shown_and_bookkeeping_fields_are_not_reported(tmp_path: Path, row: Callable[[int], Row]) -> None:
    results = result(tmp_path, [row(i) for i in range(30)])
    assert not of_code(results.errors + results.warnings)
    assert results.is_valid


@pytest.mark.parametrize("name", ["persona", "task", "notes"])
def test_lost_text_is_one_warning_and_stands_with_the_schema(tmp_path: Path, name: str) -> None:
    rows = [pair(i, id=i, **({name: SENTENCE} if i % 2 else {name: None})) for i in range(30)]
    results = result(tmp_path, rows)
    (fault,) = of_code(results.warnings)
    assert (fault.column, fault.row) == (name, 2)
    assert f"{name} (15 rows)" in fault.message
    assert f"'data.columns.metadata=[id,{name}]'" in fault.fix
    facts = prepare(DataOptions(path=str(tmp_path / "rows.jsonl"))).facts
    assert f"not shown to the model: id (30 rows), {name} (15 rows)" in describe_schema(facts)
    assert not of_code(result(tmp_path, rows, columns=Columns(metadata=["id", name])).warnings)
    assert not of_code(result(tmp_path, rows, SplitOptions(stratify=None, group="id", time=None)).errors)


def test_a_field_used_by_the_split_causes_no_warning(tmp_path: Path) -> None:
    rows = [pair(i, notes=f"{SENTENCE} {i % 9}") for i in range(30)]
    assert of_code(result(tmp_path, rows).warnings)
    assert not of_code(result(tmp_path, rows, SplitOptions(group="notes")).warnings)


PREFERENCES: dict[str, tuple[Row, str]] = {
    "pair": (
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        "'data.columns={prompt:prompt,completion:chosen}'",
    ),
    "texts": ({"chosen": "q a", "rejected": "q b"}, "data.columns.text=chosen"),
    "chats": (
        {
            "prompt": "q",
            "chosen": chat(1)["messages"],
            "rejected": chat(2)["messages"],
            "messages": chat(1)["messages"],
        },
        "data.columns.messages=chosen",
    ),
    "openai": (
        {
            "input": {"messages": [{"role": "user", "content": "q"}]},
            "preferred_output": [{"role": "assistant", "content": "a"}],
            "non_preferred_output": [{"role": "assistant", "content": "b"}],
        },
        "'data.columns={prompt:input,completion:preferred_output}'",
    ),
    "rft": (
        {"messages": [{"role": "user", "content": "q"}], "reference_answer": "a"},
        "'data.columns={prompt:messages,completion:reference_answer}'",
    ),
}


@pytest.mark.parametrize("name", PREFERENCES)
def test_preferences_are_one_fault_whose_setting_trains_on_the_better_answers(
    gate: Any, tmp_path: Path, name: str
) -> None:
    row, setting = PREFERENCES[name]
    (fault,) = result(tmp_path, [row] * 30).errors
    assert fault.code == "unused-field"
    assert "(30 rows)" in fault.message
    assert fault.fix.endswith(setting)
    prepared: Prepared = gate([row], SplitOptions(ratios=[1, 0, 0]), **data_options(shlex.split(setting)))
    (example,) = prepared.splits["train"]
    assert example.completion in ("a", "q a", "1 mills")
    assert not [w for w in prepared.report["warnings"] if w["code"] == "unused-field"]


@pytest.mark.parametrize(("key", "value"), [("train", False), ("loss_weight", 0.0), ("weight", 0)])
def test_a_turn_that_is_not_to_be_trained_on_is_only_read(gate: Any, key: str, value: object) -> None:
    row = chat(1, {key: value})
    row["messages"] += [{"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Yes."}]
    (example,) = gate([row], SplitOptions(ratios=[1, 0, 0])).splits["train"]
    assert example.prompt[1].weight == 0


@pytest.mark.parametrize(
    "weights", [{"weight": -0.5}, {"loss_weight": "2"}, {"train": "no"}, {"weight": True}, {"train": True, "weight": 0}]
)
def test_weights_that_mean_nothing_are_faults(tmp_path: Path, weights: Row) -> None:
    assert {fault.code for fault in result(tmp_path, [chat(1, weights)] * 3).errors} == {"bad-messages"}


def test_reading_examples_one_by_one_reports_the_same(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [pair(i, images=["a.jpg"]) for i in range(3)])
    with pytest.raises(UserError) as caught:
        list(read_examples(DataOptions(path=str(path))))
    assert [fault.code for fault in caught.value.faults] == ["unused-field"]


def test_a_message_names_twenty_fields_and_counts_the_others() -> None:
    text = list_counts({f"c{i}": i for i in range(1, 26)})
    assert text.startswith("c1 (1 row), c2 (2 rows)")
    assert text.endswith("c20 (20 rows), and 5 more")
    assert list_counts({"": 1, "a": 2000}) == "'' (1 row), a (2,000 rows)"


def test_a_word_of_a_shown_sentence_is_listed(tmp_path: Path) -> None:
    """Which of the words is meant is known from that column alone (as in WiC)."""
    rows = [
        {"word": "mills", "sentence1": f"{i} mills are here.", "sentence2": f"He mills {i}.", "label": "TF"[i % 2]}
        for i in range(30)
    ]
    result(tmp_path, rows)
    assert "word (30 rows)" in describe_schema(prepare(DataOptions(path=str(tmp_path / "rows.jsonl"))).facts)
