"""Metrics of calls: equality as JSON, without an order of parallel calls, and their sums over a table."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamerton.decide.compare.ratios import ratios
from kamerton.direction import higher_is_better
from kamerton.score.call_metrics import CALL_METRICS, CallScores, canonical, compare_calls, leaves
from kamerton.score.calls import Call, calls_text
from kamerton.score.intervals import intervals, paired_differences
from kamerton.score.metrics import compute
from kamerton.score.table import read_scores, scores_table, write_scores

values: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.5, 1.0, "x", "1"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)
call = st.builds(Call, st.sampled_from(["f", "g"]), st.dictionaries(st.sampled_from("xyz"), values, max_size=3))
turns = st.lists(call, max_size=4)

PERFECT = CallScores(True, True, 1.0, True, 1.0, False, False)


def shuffled(value: Any, order: random.Random) -> Any:
    if isinstance(value, dict):
        items = [(key, shuffled(inner, order)) for key, inner in value.items()]
        return dict(order.sample(items, len(items)))
    if isinstance(value, list):
        return [shuffled(inner, order) for inner in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


@given(turns, st.randoms(use_true_random=False))
def test_order_of_calls_and_keys_and_form_of_numbers_do_not_matter(turn: list[Call], order: random.Random) -> None:
    other = [Call(each.name, shuffled(each.arguments, order)) for each in order.sample(turn, len(turn))]
    scores = compare_calls(turn, other)
    assert scores == (PERFECT if turn else CallScores(True, True, 1.0, True, None, False, False))


@given(turns, turns)
def test_scores_are_in_range_and_symmetric(first: list[Call], second: list[Call]) -> None:
    scores, reverse = compare_calls(first, second), compare_calls(second, first)
    assert 0 <= scores.arguments <= 1
    assert scores.arguments == pytest.approx(reverse.arguments)
    assert (scores.exact, scores.function, scores.count) == (reverse.exact, reverse.function, reverse.count)
    assert scores.spurious == reverse.missing
    if scores.exact:
        assert scores.function
        assert scores.count
        assert scores.arguments == 1
    if scores.function:
        assert scores.count


@given(st.lists(call, min_size=1, max_size=3), st.lists(call, min_size=1, max_size=3))
def test_calls_are_paired_in_the_best_way(first: list[Call], second: list[Call]) -> None:
    from itertools import permutations

    longer, shorter = (first, second) if len(first) >= len(second) else (second, first)
    best = max(
        sum(len(leaves(a) & leaves(b)) for a, b in zip(chosen, shorter, strict=True) if a.name == b.name)
        for chosen in permutations(longer, len(shorter))
    )
    total = sum(len(leaves(each)) for each in (*first, *second))
    if total:
        assert compare_calls(first, second).arguments == pytest.approx(2 * best / total)


@pytest.mark.parametrize(
    ("target", "predicted", "expected"),
    [
        ({"x": 1}, {"x": 1.0}, 1.0),
        ({"x": 1}, {"x": True}, 0.0),
        ({"x": 1}, {"x": "1"}, 0.0),
        ({"x": None}, {}, 0.0),
        ({}, {}, 1.0),
        ({"x": {}}, {"x": []}, 0.0),
        ({"x": [1, 2]}, {"x": [2, 1]}, 0.0),
        ({"x": [1, 2]}, {"x": [1]}, 2 / 3),
        ({"x": 1, "y": {"a": "b", "c": 2}}, {"y": {"c": 2}, "x": 3}, 2 / 5),
    ],
)
def test_f1_of_arguments(target: dict[str, Any], predicted: dict[str, Any], expected: float) -> None:
    scores = compare_calls([Call("f", target)], [Call("f", predicted)])
    assert scores.arguments == pytest.approx(expected)
    assert scores.exact == (expected == 1)


def test_no_value_equals_another() -> None:
    distinct: list[Any] = [
        None,
        True,
        False,
        0,
        1,
        0.5,
        "",
        "1",
        "true",
        [],
        {},
        [1],
        ["1"],
        [[]],
        {"a": 1},
        {"a": "1"},
    ]
    assert len({canonical(value) for value in distinct}) == len(distinct)


def test_arguments_of_other_functions_do_not_count() -> None:
    scores = compare_calls([Call("f", {"x": 1})], [Call("g", {"x": 1})])
    assert (scores.function, scores.arguments, scores.count) == (False, 0.0, True)


def test_an_invalid_call_is_never_right() -> None:
    for target in (Call("f", {}), Call("f", {"x": 1})):
        scores = compare_calls([target], [Call("f", None, "{")])
        assert (scores.exact, scores.function, scores.arguments, scores.valid) == (False, True, 0.0, 0.0)


def test_missing_and_spurious_calls() -> None:
    f = [Call("f", {})]
    assert compare_calls(f, []) == CallScores(False, False, 0.0, False, None, False, True)
    assert compare_calls([], f) == CallScores(False, False, 0.0, False, 1.0, True, False)


def table(rows: list[tuple[list[Call] | None, list[Call] | None, str, str]]) -> pa.Table:
    """A table of rows with calls of the reference, calls of the answer, and the contents of both."""
    return scores_table(
        [
            {
                "example_id": f"{i:016x}",
                "prompt": "p",
                "target": target,
                "prediction": prediction,
                "nll": 1.0,
                "target_tokens": 2,
                "correct_tokens": 1,
                "metadata": "{}",
                "finish_reason": "stop",
                "target_calls": None if due is None else calls_text(due),
                "predicted_calls": None if made is None else calls_text(made),
            }
            for i, (due, made, target, prediction) in enumerate(rows)
        ],
        None,
    )


F, F2, G = Call("f", {"x": 1}), Call("f", {"x": 2}), Call("g", {})
MIXED = [
    ([F], [F], "", ""),
    ([F, G], [F2, G], "", ""),
    ([F], [G], "", "no text is due"),
    ([F], [], "", "It rains."),
    ([F], [Call("f", None, "{")], "", ""),
    ([], [], "Yes", "Yes"),
    ([], [G], "Yes", ""),
    (None, [], "Yes", "No"),
    ([F], None, "", "cannot be read"),
]


def test_metrics_of_a_table() -> None:
    values = compute(table(MIXED))
    assert {name: values[name] for name in CALL_METRICS} == {
        "call_exact": 1 / 5,
        "call_function": 3 / 5,
        "call_arguments": 1 / 5,
        "call_valid_json": 5 / 6,
        "call_count": 4 / 5,
        "call_spurious": 1 / 3,
        "call_missing": 1 / 5,
    }
    assert values["exact_match"] == 1 / 3  # only the rows whose reference has a text


def test_a_perfect_answer_scores_one() -> None:
    values = compute(table([([F, G], [G, F], "", ""), ([], [], "Yes", "Yes")]))
    assert {values[name] for name in CALL_METRICS if higher_is_better(name)} == {1.0}
    assert {values[name] for name in CALL_METRICS if not higher_is_better(name)} == {0.0}
    assert {higher_is_better(name) for name in CALL_METRICS} == {True, False}


def test_metrics_without_rows_that_count_are_undefined() -> None:
    values = compute(table([([F], [], "", "x")]))
    assert (values["call_valid_json"], values["call_spurious"], values["exact_match"]) == (None, None, None)


def test_ratios_and_intervals_are_those_of_the_metrics(tmp_path: Path) -> None:
    rows = table(MIXED * 3)
    write_scores(rows, tmp_path / "test.parquet")
    rows = read_scores(tmp_path / "test.parquet")
    values, bounds = compute(rows), intervals(rows, resamples=200)
    for name, ratio in ratios(rows).items():
        assert ratio.numerator.sum() / ratio.denominator.sum() == pytest.approx(values[name])
    for name in CALL_METRICS:
        assert bounds[name][0] <= float(values[name] or 0) <= bounds[name][1]


def test_paired_differences_of_calls() -> None:
    base = table([([F], [G], "", "")] * 20)
    tuned = table([([F], [F], "", "")] * 20)
    for tables in (base, tuned):
        assert not np.isnan(compute(tables)["call_exact"] or 0)
    base, tuned = (
        each.set_column(0, "example_id", pa.array([f"{i:016x}" for i in range(20)])) for each in (base, tuned)
    )
    assert paired_differences(base, tuned, resamples=50)["call_exact"] == {"difference": 1.0, "low": 1.0, "high": 1.0}


def test_tables_without_calls_have_no_columns_or_metrics_of_calls(tmp_path: Path) -> None:
    plain = table([(None, None, "Yes", "Yes")])
    write_scores(plain, tmp_path / "test.parquet")
    read = read_scores(tmp_path / "test.parquet")
    assert read.column_names[-1] == "finish_reason"
    assert not [name for name in compute(read) if name.startswith("call_")]
