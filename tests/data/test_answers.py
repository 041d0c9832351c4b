"""Which answers are labels: not those that call functions, and those with reasoning or a weight by their text."""

from __future__ import annotations

from typing import Any

import pytest

from kamerton.data.options import SplitOptions
from support.rows import question

ALL = SplitOptions(ratios=[1, 0, 0])


def rows(**more: Any) -> list[dict[str, Any]]:
    return [{"question": question(i), "answer": ("yes", "no")[i % 2], **more} for i in range(40)]


@pytest.mark.parametrize("more", [{}, {"reasoning": "Because."}, {"loss_weight": 0.5}])
def test_answers_with_reasoning_or_a_weight_are_labels_by_their_text(gate: Any, more: dict[str, Any]) -> None:
    prepared = gate(rows(**more), ALL)
    assert prepared.labels == ["no", "yes"]
    assert prepared.report["labels"] == ["no", "yes"]


def test_reasoning_that_differs_makes_no_other_labels(gate: Any) -> None:
    different = [row | {"reasoning": f"Reason {i}."} for i, row in enumerate(rows())]
    assert gate(different, ALL).labels == ["no", "yes"]


def test_answers_that_call_functions_are_free_text(gate: Any) -> None:
    call = {"function": {"name": "get_weather", "arguments": "{}"}}
    chats = [
        {
            "messages": [
                {"role": "user", "content": row["question"]},
                {"role": "assistant", "content": row["answer"], "tool_calls": [call]},
            ]
        }
        for row in rows()
    ]
    assert gate(chats, ALL).labels is None
    for chat in chats:
        del chat["messages"][1]["tool_calls"]
    assert gate(chats, ALL).labels == ["no", "yes"]
