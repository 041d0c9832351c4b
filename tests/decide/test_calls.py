"""Calls by function in reports and comparisons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from kamerton.decide.compare.calls import call_confusions, calls_by_function, unjudged
from kamerton.decide.compare.examples import is_right, worst
from kamerton.decide.compare.predictions import validate_results
from kamerton.decide.report.run import write_report
from kamerton.score.table import scores_table, write_scores
from support.reports import Page
from support.synthetic import write_run

OSLO: dict[str, Any] = {"name": "weather", "arguments": {"city": "Oslo"}}
ROME: dict[str, Any] = {"name": "weather", "arguments": {"city": "Rome"}}
TIME: dict[str, Any] = {"name": "time", "arguments": {}}
BROKEN: dict[str, Any] = {"name": "weather", "invalid": '{"city'}
TURNS: list[tuple[list[Any], list[Any] | None, str, str]] = [  # calls due and made, texts due and made
    ([OSLO, TIME], [TIME, OSLO], "", ""),
    ([OSLO], [ROME], "", ""),
    ([OSLO], [TIME], "", ""),
    ([OSLO], [BROKEN], "", ""),
    ([OSLO], [], "", "No."),
    ([], [TIME], "Hello.", ""),
    ([], [], "Hello.", "Hello."),
    ([OSLO], None, "", "cannot be read"),
]


def table(turns: list[tuple[list[Any], list[Any] | None, str, str]] = TURNS) -> pa.Table:
    return scores_table(
        [
            {
                "example_id": f"{i:016x}",
                "prompt": "p",
                "target": target,
                "prediction": prediction,
                "nll": float(i),
                "target_tokens": 2,
                "correct_tokens": 1,
                "metadata": "{}",
                "finish_reason": "stop",
                "target_calls": json.dumps(due),
                "predicted_calls": None if made is None else json.dumps(made),
            }
            for i, (due, made, target, prediction) in enumerate(turns)
        ],
        None,
    )


def test_the_fate_of_every_call_is_counted() -> None:
    weather, time = calls_by_function(table())
    assert weather == {
        "function": "weather",
        "due": 5,
        "right": 1,
        "arguments": 1,
        "invalid": 1,
        "confused": {"time": 1},
        "missing": 1,
        "spurious": 0,
    }
    assert (time["due"], time["right"], time["spurious"]) == (1, 1, 1)
    assert call_confusions(table()) == {
        ("weather", "time"): 1,
        ("weather", "(other arguments)"): 1,
        ("weather", "(invalid call)"): 1,
        ("weather", "(no call)"): 1,
        ("(no call)", "time"): 1,
    }


def test_turns_that_are_not_judged_are_reported() -> None:
    assert "The calls of 1 turn are not judged" in str(unjudged(table()))
    assert unjudged(table(TURNS[:-1])) is None


def test_right_and_wrong_turns_are_shown_with_their_calls() -> None:
    rows = table(TURNS[:-1])
    assert is_right(rows).tolist() == [True, False, False, False, False, False, True]
    shown = {row["example_id"][-1]: (row["target"], row["answer"]) for row in worst(rows)}
    assert shown["1"] == ('weather({"city": "Oslo"})', 'weather({"city": "Rome"})')
    assert shown["3"] == ('weather({"city": "Oslo"})', '{"city (not a valid call)')
    assert shown["5"] == ("Hello.", "time({})")


def test_answers_that_are_calls_alone_are_not_empty() -> None:
    result = validate_results(table(TURNS[:4] * 5))
    assert [fault.code for fault in (*result.errors, *result.warnings)] == ["results.calls"]


def test_the_report_has_a_section_only_for_data_with_functions(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    page = Page(write_report(run).read_text())
    assert "calls" not in page.sections
    assert "Tool calls" not in (run / "report.md").read_text()
    assert "calls" not in json.loads((run / "report.json").read_text())
    for name in ("test", "base"):
        write_scores(table(), run / "scores" / f"{name}.parquet")
    page = Page(write_report(run).read_text())
    row = next(row for row in page.rows["calls"] if row[0] == "weather")
    assert row == ["weather", "5", "1", "1", "1", "1", "1", "time (1)", "0"]
    assert "| weather | 5 | 1 |" in (run / "report.md").read_text()
    assert "Calls right" in page.text("metrics")
