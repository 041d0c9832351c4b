"""Conversations that are not lists of turns: texts in turn, pairs, one text, other keys of a role."""

from __future__ import annotations

from typing import Any

import pytest

from kamerton.data.options import Columns, SplitOptions
from kamerton.errors import UserError

ALL = SplitOptions(ratios=[1, 0, 0])
TEXTS = ["How many mills?", "Three mills.", "And ovens?", "Two ovens."]
ROLES = ["user", "assistant", "user", "assistant"]
TURNS = list(zip(ROLES, TEXTS, strict=True))
ROWS: dict[str, dict[str, Any]] = {
    "lima": {"conversations": TEXTS},
    "ultrachat": {"id": "7", "data": TEXTS},
    "dialogues": {"dialog": TEXTS, "act": [1, 2, 1, 2]},
    "capybara": {"conversation": [{"input": TEXTS[i], "output": TEXTS[i + 1]} for i in (0, 2)]},
    "swift": {"conversation": [{"human": TEXTS[i], "assistant": TEXTS[i + 1]} for i in (0, 2)]},
    "cohere": {"messages": [{"role": r.replace("assistant", "Chatbot"), "content": t} for r, t in TURNS]},
    "palm": {"messages": [{"author": r.replace("assistant", "bot"), "content": t} for r, t in TURNS]},
    "texts": {"messages": [{"role": role, "text": text} for role, text in TURNS]},
    "phoenix": {"messages": [{"message.role": role, "message.content": text} for role, text in TURNS]},
}


@pytest.mark.parametrize("form", ROWS)
def test_every_form_is_the_same_conversation(gate: Any, form: str) -> None:
    prepared = gate([ROWS[form]], ALL)
    (example,) = prepared.splits["train"]
    assert [(turn.role, turn.content) for turn in example.prompt] == TURNS[:3]
    assert example.completion == TEXTS[3]
    assert not {name for name in prepared.report["unused"] if "[]" in name}


def test_a_system_prompt_in_a_pair_is_the_system_turn(gate: Any) -> None:
    pairs = [{"system": "Be brief.", "input": "How many?", "output": "Three."}, {"input": "Sure?", "output": "Yes."}]
    (example,) = gate([{"conversation": pairs}], ALL).splits["train"]
    assert [turn.role for turn in example.prompt] == ["system", "user", "assistant", "user"]


def test_a_text_of_human_and_assistant_is_read_as_turns_if_it_is_named(gate: Any) -> None:
    text = "\n\nHuman: How many mills?\n\nAssistant: Three.\n\nHuman: Sure?\n\nAssistant: Yes."
    (example,) = gate([{"chosen": text, "rejected": "no"}], ALL, columns=Columns(messages="chosen")).splits["train"]
    assert [turn.content for turn in example.prompt] == ["How many mills?", "Three.", "Sure?"]


def test_segments_that_are_named_as_turns_are_joined(gate: Any) -> None:
    marks = [(False, "How "), (False, "many?"), (True, "Three."), (False, "Sure?"), (True, "Ye"), (True, "s.")]
    row = {"segments": [{"label": label, "text": text} for label, text in marks]}
    (example,) = gate([row], ALL, columns=Columns(messages="segments")).splits["train"]
    assert [turn.content for turn in example.prompt] == ["How many?", "Three.", "Sure?"]
    assert example.completion == "Yes."


def test_texts_beside_a_prompt_and_an_answer_are_no_conversation(gate: Any) -> None:
    (example,) = gate([{"question": "How many mills?", "answer": "Three.", "data": ["a", "b"]}], ALL).splits["train"]
    assert example.prompt == "How many mills?"


@pytest.mark.parametrize("turn", [{"content": ""}, {"content": None, "weight": 1}, {"content": "", "name": None}])
def test_an_empty_system_turn_is_none(gate: Any, turn: dict[str, Any]) -> None:
    rest = [{"role": "user", "content": "How many?"}, {"role": "assistant", "content": "Three."}]
    (example,) = gate([{"messages": [{"role": "system", **turn}, *rest]}], ALL).splits["train"]
    assert [message.role for message in example.prompt] == ["user"]


def test_questions_of_one_user_are_no_conversation(codes: Any) -> None:
    assert codes([{"question_id": 1, "turns": ["How many?", "Write it again."]}] * 3) == {"unclear-columns"}


def test_a_fault_names_the_place_in_a_pair(gate: Any) -> None:
    with pytest.raises(UserError) as caught:
        gate([{"conversation": [{"input": "a", "output": "b"}, {"input": "c", "output": ""}]}], ALL)
    assert "conversation[1].output" in caught.value.faults[0].where
