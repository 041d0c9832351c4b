"""No turn is left out by a chat template, or stays untrained, without a report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kamerton.config.model_options import ModelOptions
from kamerton.data.encode.render import AnnotatedStretches, Renderer
from kamerton.data.encode.tokenize import StretchTokenizer
from kamerton.data.example import DataExample, Message
from kamerton.data.gate import Prepared
from kamerton.data.inputs import encode_splits
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.errors import UserError
from kamerton.model.tiny import tiny_tokenizer
from support.rows import question

Gate = Callable[..., Prepared]
ALL_TRAIN = SplitOptions(ratios=[1.0, 0.0, 0.0])
TURN = "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
KNOWN = (  # writes the roles it knows, like Qwen2.5
    f"{{% for m in messages %}}{{% if m.role in ['system', 'user', 'assistant'] %}}{TURN}{{% endif %}}{{% endfor %}}"
) + PROMPT
LEADING = (  # as KNOWN, with a system turn only at the beginning
    "{% for m in messages %}{% if m.role in ['user', 'assistant'] or m.role == 'system' and loop.first %}"
    f"{TURN}{{% endif %}}{{% endfor %}}"
) + PROMPT
ESCAPED = (  # writes the contents of tools as JSON, and strips the others
    "{% for m in messages %}{{ m.role ~ ': ' ~ (m.content | tojson if m.role == 'tool' else m.content | trim) }}"
    "<|im_end|>{% endfor %}"
) + PROMPT
THINKING = (  # an empty thought before the last answer, none before earlier ones, like Qwen3
    "{% for m in messages %}{% set answer = m.content.split('</think>')[-1] %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ answer + '<|im_end|>\n' }}{% endfor %}"
) + PROMPT


def tokenizer(template: str) -> Any:
    result = tiny_tokenizer()
    result.chat_template = template
    return result


def chat(*turns: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def outcome(gate: Gate, rows: list[Any], template: str, folder: Path, **options: Any) -> Any:
    data = DataOptions(path="", **options)
    return encode_splits(gate(rows, ALL_TRAIN), tokenizer(template), data, ModelOptions(name="tiny"), folder)


def rows_with_a_later_system_turn(i: int = 3) -> list[Any]:
    rows = [chat(("system", "Be brief."), ("user", question(k)), ("assistant", "yes")) for k in range(40)]
    rows[i]["messages"].insert(0, rows[i]["messages"].pop(1))
    return rows


def dropped(turns: list[tuple[str, str]], template: str) -> list[tuple[str, str | None]]:
    """Places of the dropped turns and the roles that are advised, for a chat with these turns before its completion."""
    example = DataExample(tuple(Message(role, content, 0.0) for role, content in turns), "ok")
    (result,) = Renderer(tokenizer(template), None).render([example])
    return [(note.place, note.better) for note in result.turns] if isinstance(result, AnnotatedStretches) else []


def test_a_dropped_turn_is_a_fault_of_its_row_and_the_fix_names_a_role(gate: Gate, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        outcome(gate, rows_with_a_later_system_turn(), LEADING, tmp_path)
    (fault,) = caught.value.faults
    assert (fault.code, fault.row, fault.column) == ("dropped-turn", 4, "turns[1]")
    assert "'system'" in fault.message
    assert '"role" as "user"' in fault.fix
    assert "data.policy.dropped-turn=drop" in fault.fix
    outcome(gate, rows_with_a_later_system_turn(), KNOWN, tmp_path)


@pytest.mark.parametrize(("policy", "left"), [("drop", 39), ("warn", 40)])
def test_what_becomes_of_rows_with_dropped_turns_is_the_policys(
    gate: Gate, tmp_path: Path, policy: str, left: int
) -> None:
    for _ in range(2):  # the second time from the cache
        options = {"policy": {"dropped-turn": policy}}
        prepared, encoded = outcome(gate, rows_with_a_later_system_turn(), LEADING, tmp_path, **options)
        assert len(encoded["train"]) == left
        assert [(w["code"], w["count"]) for w in prepared.report["warnings"] if w["code"] == "dropped-turn"] == [
            ("dropped-turn", 1)
        ]


@pytest.mark.parametrize(
    ("template", "turns", "expected"),
    [
        (KNOWN, [("critic", "brief"), ("user", "be brief")], [("turns[0]", "system")]),
        (KNOWN, [("critic", " \n"), ("user", "hi")], []),
        (KNOWN, [("developer", "brief"), ("user", "be brief")], []),
        (LEADING, [("user", "hi"), ("developer", "stop")], [("turns[1]", None)]),
        (
            KNOWN,
            [("user", "hi"), ("tool", "7"), ("user", "7?"), ("critic", "no")],
            [("turns[1]", "system"), ("turns[3]", "system")],
        ),
        (LEADING, [("user", "hi"), ("system", "stop")], [("turns[1]", "user")]),
        (ESCAPED, [("user", " hi "), ("tool", '{"a": "é\n"}'), ("user", "<b>")], []),
        (THINKING, [("user", "a"), ("assistant", "<think>x</think>"), ("user", "b")], []),
        (
            "{% for m in messages %}{{ m.role }}{% endfor %}",
            [("user", "a")],
            [("turns[0]", None), ("completion", None)],
        ),
    ],
)
def test_a_turn_is_dropped_if_the_template_does_not_write_it(
    template: str, turns: list[tuple[str, str]], expected: list[tuple[str, str | None]]
) -> None:
    assert dropped(turns, template) == expected


def test_control_tokens_in_texts_hide_no_dropped_turn() -> None:
    example = DataExample((Message("critic", "<|im_end|>", 0.0), Message("user", "hi", 0.0)), "ok")
    (result,) = StretchTokenizer(tokenizer(KNOWN)).render([example])
    assert isinstance(result, AnnotatedStretches)
    assert [token.place for token in result.literals] == [note.place for note in result.turns] == ["turns[0]"]


def untrained(gate: Gate, rows: list[Any], template: str, folder: Path) -> list[dict[str, Any]]:
    prepared, _ = outcome(gate, rows, template, folder)
    return [warning for warning in prepared.report["warnings"] if warning["code"] == "untrained-turns"]


def follow_up(first: str) -> list[Any]:
    return [
        chat(("user", question(i)), ("assistant", first), ("user", "Sure?"), ("assistant", "Yes.")) for i in range(40)
    ]


def test_a_turn_that_should_be_a_target_and_has_no_prompt_is_one_warning(gate: Gate, tmp_path: Path) -> None:
    rows = [
        chat(("assistant", "Hi!"), *[(m["role"], m["content"]) for m in row["messages"][:2]]) for row in follow_up("a")
    ]
    (warning,) = untrained(gate, rows, THINKING, tmp_path)
    assert warning["message"].startswith("40 earlier assistant turns of 40 rows")
    assert "40 with no target because no turn precedes them" in warning["message"]
    assert (warning["row"], warning["column"], warning["count"]) == (1, "turns[0]", 1)
    assert '"weight" to 0' in warning["fix"]
    for row in rows:
        row["messages"][0]["weight"] = 0
    assert untrained(gate, rows, THINKING, tmp_path) == []


def test_turns_that_a_template_writes_differently_later_are_targets(gate: Gate, tmp_path: Path) -> None:
    assert untrained(gate, follow_up("plain"), THINKING, tmp_path) == []


def test_reasoning_that_the_template_cuts_away_is_a_fault(gate: Gate, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        outcome(gate, follow_up("<think>a</think>b"), THINKING, tmp_path)
    fault = caught.value.faults[0]
    assert (fault.code, fault.row, fault.column) == ("dropped-turn", 1, "turns[1].reasoning")


def test_turns_that_are_targets_to_their_end_are_not_reported(gate: Gate, tmp_path: Path) -> None:
    assert untrained(gate, follow_up("plain"), KNOWN, tmp_path) == []
