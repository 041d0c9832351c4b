"""Which columns mean what, in every schema that people have."""

from __future__ import annotations

import json

import pytest

from kamerton.data.options import Columns
from kamerton.data.read.columns.fields import to_fields
from kamerton.data.read.columns.layout import Layout
from kamerton.data.read.columns.schema import find_layout
from kamerton.errors import Fault


def fields(record: dict[str, object], columns: Columns | None = None, action: str = "warn") -> object:
    """`(prompt or turns, completion, metadata)`, or the codes of the faults."""
    layout = find_layout(record, columns or Columns())
    if isinstance(layout, Fault):
        return [layout.code]
    result, faults = to_fields(record, layout, lambda code: action)
    if result is None:
        return [fault.code for fault in faults]
    prompt = json.loads(result.prompt) if result.chat and result.prompt else result.prompt
    return prompt, result.completion, json.loads(result.metadata) if result.metadata else {}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"prompt": "p", "completion": "c"}, ("p", "c", {})),
        ({"question": "p", "answer": "c", "level": 3}, ("p", "c", {"level": 3})),
        ({"text": "p", "label": "c"}, ("p", "c", {})),
        ({"text": "plain"}, (None, "plain", {})),
        ({"instruction": "p", "input": "", "output": "c"}, ("p", "c", {})),
        ({"instruction": "p", "input": "q", "output": "c"}, ("p\n\nq", "c", {})),
        ({"prompt": "p", "completion": "c", "metadata": {"a": 1}, "b": [2]}, ("p", "c", {"a": 1, "b": [2]})),
        ({"prompt": "p", "completion": "c", "metadata": {"a": 1}, "a": 2}, ("p", "c", {"metadata.a": 1, "a": 2})),
        (
            {"prompt": [{"role": "user", "content": "p"}], "completion": [{"role": "assistant", "content": "c"}]},
            ([["user", "p", 1.0]], "c", {}),
        ),
        (
            {"conversations": [{"from": "human", "value": "p"}, {"from": "gpt", "value": "c"}]},
            ([["user", "p", 1.0]], "c", {}),
        ),
        (
            {
                "messages": [
                    {"role": "system", "content": "s"},
                    {"role": "user", "content": "p"},
                    {"role": "assistant", "content": "a", "weight": 0},
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "content": [{"type": "text", "text": "c"}], "weight": 1},
                ]
            },
            ([["system", "s", 1.0], ["user", "p", 1.0], ["assistant", "a", 0.0], ["user", "q", 1.0]], "c", {}),
        ),
    ],
)
def test_schemas(record: dict[str, object], expected: object) -> None:
    assert fields(record) == expected


def test_mapped_columns() -> None:
    record = {"mr": "p", "ref": "c", "prompt": "no", "n": 1, "m": 2}
    assert fields(record, Columns(prompt="mr", completion="ref", metadata=["n"])) == ("p", "c", {"n": 1})
    assert fields(record, Columns(text="ref", metadata=[])) == (None, "c", {})


def test_an_unknown_column_suggests_the_nearest() -> None:
    fault = find_layout(["prompt", "completion"], Columns(prompt="promt"))
    assert isinstance(fault, Fault)
    assert fault.code == "unknown-column"
    assert fault.fix == "set data.columns.prompt=prompt"


def test_columns_of_no_schema() -> None:
    assert fields({"prompt": "p"}) == ["missing-field"]
    assert fields({"answer": "c"}) == ["missing-field"]
    assert fields({}) == ["missing-field"]


def turn(role: str = "user", content: object = "x", **more: object) -> dict[str, object]:
    return {"role": role, "content": content, **more}


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ("text", "bad-messages"),
        ([], "bad-messages"),
        ([turn(), "b"], "bad-messages"),
        ([turn("narrator"), turn("assistant")], "bad-messages"),
        ([turn(), turn("assistant", weight=-1)], "bad-messages"),
        ([turn(), turn("assistant", weight=0)], "bad-messages"),
        ([turn("assistant")], "bad-messages"),
        ([turn(), turn("assistant", None)], "missing-field"),
        ([turn(), turn("assistant", "")], "empty-field"),
        ([turn(), turn("assistant", [{"type": "image_url"}])], "empty-field"),
    ],
)
def test_chats_that_cannot_be_used(messages: object, code: str) -> None:
    assert code in fields({"messages": messages})  # type: ignore[operator]


def test_turns_after_the_last_trained_one_are_left_out() -> None:
    record = {"messages": [turn(), turn("assistant", "c"), turn("user", "thanks")]}
    layout = find_layout(record, Columns())
    assert isinstance(layout, Layout)
    result, (fault,) = to_fields(record, layout, lambda code: "fix")
    assert fault.code == "trailing-turns"
    assert result is not None
    assert result.completion == "c"
