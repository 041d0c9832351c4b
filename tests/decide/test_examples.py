"""Selection of the examples that reports show."""

from __future__ import annotations

import math

import pyarrow.compute as pc
import pytest

from kamerton.decide.compare.examples import MAX_CHARACTERS, changed, is_right, worst
from kamerton.score.intervals import joined
from support import synthetic


def test_the_worst_are_wrong_and_come_by_falling_nll() -> None:
    table = synthetic.scores(0.7)
    unlikely = pc.if_else(is_right(table), 99.0, table["nll"])  # right answers are no mistakes, however unlikely
    table = table.set_column(table.schema.get_field_index("nll"), "nll", unlikely)
    rows = worst(table, limit=5)
    wrong = table.filter(pc.not_equal(table["label"], table["predicted_label"]))
    assert [row["nll"] for row in rows] == sorted(wrong["nll"].to_pylist(), reverse=True)[:5]
    assert all(row["answer"] != row["target"] for row in rows)


def test_probabilities_are_those_of_the_answer_and_the_reference() -> None:
    table = synthetic.scores(0.7)
    row = worst(table, limit=1)[0]
    source = next(line for line in table.to_pylist() if line["example_id"] == row["example_id"])
    logprobs = dict(zip(synthetic.LABELS, source["label_logprobs"], strict=True))
    assert row["p_answer"] == pytest.approx(math.exp(logprobs[source["predicted_label"]]))
    assert row["p_target"] == pytest.approx(math.exp(logprobs[source["label"]]))


def test_without_labels_an_example_is_right_when_every_token_is() -> None:
    table = synthetic.scores(0.7, labelled=False)
    assert is_right(table).tolist() == pc.equal(table["correct_tokens"], table["target_tokens"]).to_pylist()
    row = worst(table, limit=1)[0]
    assert row["p_target"] == pytest.approx(math.exp(-row["nll"]))
    assert row["p_answer"] is None


def test_fixed_and_broken_are_the_answers_whose_correctness_changed() -> None:
    base, tuned = joined(synthetic.scores(0.5, seed=1), synthetic.scores(0.6, seed=2))
    result = changed(base, tuned, limit=3)
    before, after = is_right(base), is_right(tuned)
    assert result["fixed_count"] == (~before & after).sum() > 3
    assert result["broken_count"] == (before & ~after).sum() > 3
    assert len(result["fixed"]) == len(result["broken"]) == 3
    assert all(row["before"] != row["target"] == row["answer"] for row in result["fixed"])
    assert all(row["before"] == row["target"] != row["answer"] for row in result["broken"])


def test_long_texts_say_how_much_is_left_out() -> None:
    table = synthetic.scores(0.0, rows=1)
    position = table.schema.get_field_index("prompt")
    table = table.set_column(position, "prompt", [["x" * (MAX_CHARACTERS + 1234)]])
    assert worst(table)[0]["prompt"].endswith("… (1,234 more characters in the score table)")
