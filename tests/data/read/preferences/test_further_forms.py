"""Forms of preference data of LMSYS, NVIDIA, OpenBMB, Ai2 and Argilla, and turns as JSON in the cells of tables."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from kamerton.data.example import DataExample
from kamerton.data.gate import prepare
from kamerton.data.options import Columns, DataOptions, SplitOptions
from kamerton.data.validation import read_examples
from kamerton.errors import Fault, UserError
from support.rows import write_jsonl

Row = dict[str, Any]
PAIR = [("Yes.", 1.0), ("No.", 0.0)]
USER = [("user", "Is it?")]
QUESTION = {"role": "user", "content": "Is it?"}


def said(content: str) -> Row:
    return {"role": "assistant", "content": content}


def lmsys(**more: Any) -> Row:
    """A row of LMSYS's 55,000 comparisons: texts in turn as JSON, and a column for each outcome."""
    row = {"id": 1, "model_a": "m", "model_b": "n", "prompt": '["Is it?"]', "response_a": '["No."]'}
    row |= {"response_b": '["Yes."]', "winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0}
    return row | more


def nova(**labels: str) -> Row:
    """A row of Amazon Nova: the last turn has candidates, by their text and label."""
    candidates = [{"content": [{"text": f"{text}."}], "preferenceLabel": label} for text, label in labels.items()]
    question = {"role": "user", "content": [{"text": "Is it?"}]}
    system = [{"text": "Be kind."}]
    return {"system": system, "messages": [question, {"role": "assistant", "candidates": candidates}]}


FORMS: dict[str, tuple[Row, list[tuple[str, str]]]] = {
    "LMSYS": (lmsys(), USER),
    "LMSYS, lists": (lmsys(prompt=["Is it?"], response_a=["No."], response_b=["Yes."]), USER),
    "LMSYS, the same answer before": (
        lmsys(prompt=["Hello", "Is it?"], response_a=["Hi", "No."], response_b=["Hi", "Yes."]),
        [("user", "Hello"), ("assistant", "Hi"), *USER],
    ),
    "Arena, both bad in others": (
        {"conversation_a": [QUESTION, said("Yes.")], "conversation_b": [QUESTION, said("No.")], "winner": "model_a"},
        USER,
    ),
    "HelpSteer2, preferences": (
        {"prompt": "Is it?", "response_1": "Yes.", "response_2": "No.", "preference_strength": -2},
        USER,
    ),
    "HelpSteer3": (
        {"context": [QUESTION], "response1": "No.", "response2": "Yes.", "overall_preference": 1, "domain": "code"},
        USER,
    ),
    "UltraInteract": (
        {
            "task": "Coding",
            "trajectory": [{"from": "user", "value": "Is it?"}],
            "chosen": "Yes.",
            "rejected": "No.",
            "id": "a",
        },
        USER,
    ),
    "Tulu": (
        {
            "id": "a",
            "prompt": "Is it?",
            "chosen": [QUESTION, said("Yes.")],
            "rejected": [QUESTION, said("No.")],
            "chosen_rating": 5.0,
            "rejected_rating": 2.0,
            "chosen_model": "m",
        },
        USER,
    ),
    "Argilla": (
        {
            "system": "Be kind.",
            "chosen": [QUESTION, said("Yes.")],
            "rejected": [QUESTION, said("No.")],
            "chosen_rating": 5.0,
        },
        [("system", "Be kind."), *USER],
    ),
    "Argilla, generations": (
        {"system": "", "input": "Is it?", "chosen": "Yes.", "rejected": "No.", "generations": ["No.", "Yes."]},
        USER,
    ),
    "WebGPT": (
        {"question": "Is it?", "answer_0": "No.", "answer_1": "Yes.", "score_0": -0.5, "score_1": 0.5},
        USER,
    ),
    "Nova": (nova(No="non-preferred", Yes="preferred"), [("system", "Be kind."), *USER]),
}


def written(example: DataExample) -> tuple[list[tuple[str, str]], list[tuple[str, float | None]]]:
    """The turns before the completions, and each completion with its score."""
    others = [(other.completion, other.score) for other in example.alternatives]
    return [(turn.role, turn.content) for turn in example.messages[:-1]], [(example.completion, example.score), *others]


def read(path: Path, rows: str = "preferences", **options: Any) -> list[DataExample]:
    return list(read_examples(DataOptions(path=str(path), rows=rows, **options)))


def fault_of(path: Path, **options: Any) -> Fault:
    with pytest.raises(UserError) as error:
        read(path, **options)
    (fault,) = (fault for fault in error.value.faults if fault.severity == "error")
    return fault


@pytest.mark.parametrize("name", FORMS)
def test_pairs_of_every_form(name: str, tmp_path: Path) -> None:
    row, before = FORMS[name]
    (example,) = read(write_jsonl(tmp_path / "rows.jsonl", [row]))
    assert written(example) == (before, PAIR)


def test_texts_in_turn_that_differ_before_the_last_are_refused(tmp_path: Path) -> None:
    row = lmsys(prompt=["Hello", "Is it?"], response_a=["Hi", "No."], response_b=["Yo", "Yes."])
    fault = fault_of(write_jsonl(tmp_path / "rows.jsonl", [row]))
    assert (fault.code, fault.row) == ("bad-preference", 1)
    assert fault.fix.endswith("data.policy.bad-preference=drop")
    empty = fault_of(write_jsonl(tmp_path / "rows.jsonl", [lmsys(response_b='[""]')]))
    assert empty.column == "response_b[0]"


def test_dialogues_that_differ_before_the_last_answer_are_reported_by_their_rows(tmp_path: Path) -> None:
    def dialogue(*answers: str) -> list[Row]:
        return [turn for answer in answers for turn in (QUESTION, said(answer))]

    rows = [
        {"conversation_a": dialogue(earlier, "Yes."), "conversation_b": dialogue("Hi", "No."), "winner": "model_a"}
        for earlier in ("Hi", "Hello", "Hi", "Yo")
    ]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(UserError) as error:
        read(path)
    assert [(fault.row, fault.column) for fault in error.value.faults] == [(2, "conversation_b"), (4, "conversation_b")]
    assert len(read(path, policy={"bad-preference": "drop"})) == 2


def test_candidates_without_both_labels_are_reported_by_their_place(tmp_path: Path) -> None:
    rows = [nova(Yes="preferred", No="worse"), nova(Yes="preferred", No="preferred")]
    path = write_jsonl(tmp_path / "rows.jsonl", [*rows, nova(Yes="preferred", No="non-preferred")])
    with pytest.raises(UserError) as error:
        read(path)
    places = [(fault.row, fault.column) for fault in error.value.faults]
    assert places == [(1, "messages[1].candidates[1]"), (2, "messages[1].candidates")]
    empty = nova(Yes="preferred", No="non-preferred")
    empty["messages"][1]["candidates"][0]["content"] = []
    fault = fault_of(write_jsonl(tmp_path / "empty.jsonl", [empty]))
    assert fault.column == "messages[1].candidates[0].content"


def test_ties_of_every_form_are_refused(tmp_path: Path) -> None:
    ties = [
        lmsys(winner_model_b=0, winner_tie=1),
        {"prompt": "Is it?", "response_1": "Yes.", "response_2": "No.", "preference_strength": 0},
        {"prompt": "Is it?", "response_a": "Yes.", "response_b": "No.", "winner": "both_bad"},
    ]
    for row in ties:
        fault = fault_of(write_jsonl(tmp_path / "rows.jsonl", [row]))
        assert fault.code == "bad-preference"
        assert "no completion is better" in fault.message


def test_completions_side_by_side_without_a_judgement_name_the_columns(tmp_path: Path) -> None:
    rows = [{"prompt": f"Is it {i}?", "response_a": "Yes.", "response_b": "No."} for i in range(5)]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    fault = fault_of(path)
    assert "data.columns.chosen=response_a data.columns.rejected=response_b" in fault.fix
    first = read(path, columns=Columns(chosen="response_a", rejected="response_b"))[0]
    assert written(first)[1] == PAIR


def helpsteer(number: int, answer: str, score: int) -> Row:
    return {"prompt": f"Is it {number}?", "response": answer, "helpfulness": score, "coherence": 4, "verbosity": score}


def test_consecutive_scored_completions_of_a_prompt_are_a_ranking(tmp_path: Path) -> None:
    rows = [helpsteer(number, *answer) for number in range(3) for answer in (("No.", 1), ("Yes.", 3))]
    path = write_jsonl(tmp_path / "rows.jsonl", [*rows, helpsteer(2, "Perhaps.", 2)])
    examples = read(path)
    assert [written(example)[1] for example in examples] == [
        *([("Yes.", 3.0), ("No.", 1.0)],) * 2,
        [("Yes.", 3.0), ("Perhaps.", 2.0), ("No.", 1.0)],
    ]
    assert len(read(path, "judgements")) == 3
    named = read(path, columns=Columns(label="verbosity"))
    assert [written(example) for example in named] == [written(example) for example in examples]
    prepared = prepare(DataOptions(path=str(path), rows="preferences"), SplitOptions(ratios=[1, 0, 0]))
    assert prepared.report["unused"] == {"coherence": 3, "verbosity": 3}
    (notes,) = prepared.report["notes"].values()
    assert "consecutive rows with one prompt are compared by helpfulness" in notes


def test_a_scored_completion_without_another_is_reported_by_its_row(tmp_path: Path) -> None:
    rows = [helpsteer(0, "No.", 1), helpsteer(0, "Yes.", 3), helpsteer(1, "Yes.", 3)]
    fault = fault_of(write_jsonl(tmp_path / "rows.jsonl", rows))
    assert (fault.code, fault.row) == ("bad-preference", 3)
    alone = fault_of(write_jsonl(tmp_path / "rows.jsonl", [helpsteer(number, "Yes.", 3) for number in range(30)]))
    assert (alone.code, alone.row) == ("missing-field", None)


def write_csv(path: Path, rows: list[Row]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_turns_as_json_in_cells(tmp_path: Path) -> None:
    turns = {"prompt": [QUESTION], "chosen": [said("Yes.")], "rejected": [said("No.")]}
    texts = {name: json.dumps(value, indent=1) for name, value in turns.items()}
    for row in (texts, {name: repr(value) for name, value in turns.items()}, lmsys()):
        (example,) = read(write_csv(tmp_path / "rows.csv", [row]))
        assert written(example) == (USER, PAIR)
    named = {"good" if name == "chosen" else name: value for name, value in texts.items()}
    (example,) = read(write_csv(tmp_path / "rows.csv", [named]), columns=Columns(chosen="good"))
    assert written(example) == (USER, PAIR)
    fault = fault_of(write_csv(tmp_path / "rows.csv", [texts | {"chosen": texts["chosen"][:-9]}]))
    assert (fault.code, fault.column) == ("bad-json", "chosen")


def test_json_that_is_a_completion_stays_a_text(tmp_path: Path) -> None:
    row = {"prompt": "As JSON?", "chosen": '{"wet": true}', "rejected": "[no"}
    for path in (write_csv(tmp_path / "rows.csv", [row]), write_jsonl(tmp_path / "rows.jsonl", [row])):
        (example,) = read(path)
        assert written(example)[1] == [('{"wet": true}', 1.0), ("[no", 0.0)]


def implicit(number: int, **more: Any) -> Row:
    return {**more, "chosen": f"The mill {number} is old.", "rejected": f"The mill {number} is new."}


@pytest.mark.parametrize(("prompt", "code"), [({"prompt": None}, "empty-field"), ({}, "missing-field")])
def test_a_pair_without_the_prompt_that_other_rows_have_is_a_fault(prompt: Row, code: str, tmp_path: Path) -> None:
    lacking = [implicit(i, **prompt) for i in range(70)]
    rows = [*lacking, implicit(70, prompt="What is it like?"), implicit(71, prompt="And this one?")]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    fault = fault_of(path)
    assert (fault.code, fault.row, fault.column) == (code, 1, "prompt")
    assert "70 times" in fault.message
    examples = read(path, policy={code: "drop"})
    assert [example.prompt for example in examples] == ["What is it like?", "And this one?"]
    first_filled = write_jsonl(tmp_path / "turned.jsonl", rows[::-1][:3])
    assert fault_of(first_filled).row == 3


@pytest.mark.parametrize("prompt", [{"prompt": None}, {}])
def test_pairs_without_any_prompt_begin_with_it(prompt: Row, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [implicit(i, **prompt) for i in range(70)])
    assert [example.prompt for example in read(path)] == [f"The mill {i} is" for i in range(70)]
