"""Golden prompts: each expectation, and all faults of the file together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kamerton.decide.compare.configurations import Group, ScoredRun
from kamerton.decide.compare.golden import check_golden, read_golden
from kamerton.errors import UserError
from support import synthetic


def written(tmp_path: Path, *rows: Any) -> str:
    path = tmp_path / "golden.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("expectation", "holds"),
    [
        ({"exact": " Paris is the capital. "}, True),
        ({"exact": "Paris"}, False),
        ({"contains": "capital"}, True),
        ({"contains": ["Paris", "Rome"]}, False),
        ({"regex": r"^Par\w+ is"}, True),
        ({"regex": "Rome"}, False),
        ({"one_of": ["Rome", "Paris is the capital."]}, True),
        ({"one_of": ["Rome"]}, False),
        ({"max_length": 21}, True),
        ({"max_length": 20}, False),
    ],
)
def test_expectations(tmp_path: Path, expectation: dict[str, Any], holds: bool) -> None:
    table = synthetic.scores(0.9, rows=3, labelled=False)
    table = table.set_column(table.schema.get_field_index("prediction"), "prediction", [["Paris is the capital."] * 3])
    golden = read_golden(written(tmp_path, {"prompt": table["prompt"][1].as_py(), **expectation}))
    (check,) = check_golden(golden, Group("new", (ScoredRun(tmp_path, table),)))
    assert check.passed == holds
    assert check.source == f"{tmp_path}/golden.jsonl:1"
    assert ("is met by" if holds else "is not met by") in check.reason


def test_a_text_may_hold_other_ends_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "golden.jsonl"
    path.write_text('{"prompt": "one\u2028two", "exact": "x"}\r\n\r\n{"prompt": "three", "exact": "y"}\n', "utf-8")
    assert [(entry.prompt, entry.source) for entry in read_golden(str(path))] == [
        ("one\u2028two", f"{path}:1"),
        ("three", f"{path}:3"),
    ]


def test_a_label_is_held_in_every_run(tmp_path: Path) -> None:
    good, bad = synthetic.scores(1.0, rows=5), synthetic.scores(0.0, rows=5)
    row = {"prompt": good["prompt"][0].as_py(), "completion": "x", "label": good["label"][0].as_py()}
    golden = read_golden(written(tmp_path, row))
    runs = tuple(ScoredRun(tmp_path / name, table) for name, table in (("a", good), ("b", bad)))
    (check,) = check_golden(golden, Group("both", runs))
    assert not check.passed
    assert "(1 of 2 runs)" in check.reason
    (check,) = check_golden(golden, Group("good", runs[:1]))
    assert check.passed


def test_every_fault_of_the_file_is_reported_with_its_line(tmp_path: Path) -> None:
    path = written(
        tmp_path, "{", {"exact": "x"}, {"prompt": "p"}, {"prompt": "p", "exakt": "x"}, {"prompt": "p", "regex": "("}
    )
    with pytest.raises(UserError) as raised:
        read_golden(path)
    assert [fault.row for fault in raised.value.faults] == [1, 2, 3, 4, 5]
    assert "did you mean 'exact'?" in raised.value.faults[3].fix


def test_no_file_and_no_prompts_are_faults(tmp_path: Path) -> None:
    for path, code in ((tmp_path / "nowhere", "golden.unreadable"), (Path(written(tmp_path, "")), "golden.empty")):
        with pytest.raises(UserError) as raised:
            read_golden(str(path))
        assert raised.value.faults[0].code == code


def test_a_prompt_that_was_not_scored_is_a_fault(tmp_path: Path) -> None:
    golden = read_golden(written(tmp_path, {"prompt": "never asked", "exact": "x"}))
    with pytest.raises(UserError, match="has no answer to 'never asked'"):
        list(check_golden(golden, Group("new", (ScoredRun(tmp_path, synthetic.scores(0.9)),))))
