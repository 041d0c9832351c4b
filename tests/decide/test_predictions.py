"""Defective answers are reported, and good ones are not."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

import kamerton
from kamerton.decide.compare.predictions import is_loop, validate_results
from kamerton.score.table import scores_table
from support import synthetic


def generated(answers: list[str | None], targets: list[str], **columns: Any) -> pa.Table:
    """A score table of generated texts."""
    rows = [
        {
            "example_id": f"{i:016x}",
            "prompt": f"question {i}",
            "target": target,
            "prediction": answer,
            "nll": 1.0,
            "target_tokens": 2,
            "correct_tokens": 1,
            "metadata": "{}",
        }
        | {name: values[i] for name, values in columns.items()}
        for i, (answer, target) in enumerate(zip(answers, targets, strict=True))
    ]
    return scores_table(rows, None)


def codes(table: pa.Table) -> set[str]:
    result = validate_results(table)
    return {fault.code for fault in (*result.errors, *result.warnings)}


GOOD = [f"The answer to question {i} is {i * 7}." for i in range(40)]


def test_it_is_a_public_name() -> None:
    assert kamerton.validate_results is validate_results


def test_sound_answers_have_no_faults() -> None:
    assert codes(generated(GOOD, GOOD)) == set()
    assert codes(synthetic.scores(0.8)) == set()
    assert codes(synthetic.scores(0.8, rows=0)) == set()
    assert validate_results(generated([None] * 40, GOOD)).report["answers"] == 0  # the references alone were scored


@pytest.mark.parametrize(
    ("code", "bad"),
    [
        ("results.empty", "  "),
        ("results.empty", None),
        ("results.repeated", "The answer is " + "very " * 40),
        ("results.repeated", "I see. " + "I do not know that. " * 5),
        ("results.repeated", "aaaaaaaa" * 10),
    ],
)
def test_a_few_bad_answers_are_a_warning_and_most_of_them_an_error(code: str, bad: str | None) -> None:
    few = validate_results(generated([bad, bad, *GOOD[2:]], GOOD))
    assert few.is_valid
    assert [fault.code for fault in few.warnings if fault.code != "results.lengths"] == [code]
    assert "2 of 40 answers" in few.warnings[0].message
    assert few.report[code] == 2
    most = validate_results(generated([bad] * 30 + GOOD[30:], GOOD))
    assert code in [fault.code for fault in most.errors]
    assert not most.is_valid


def test_answers_that_were_cut_off() -> None:
    reasons = pa.array(["length"] * 3 + ["stop"] * 37)
    table = generated(GOOD, GOOD)
    others = [name for name in table.column_names if name != "finish_reason"]
    assert codes(table.select(others)) == set()  # a table from before there was the column
    assert codes(table.select(others).append_column("finish_reason", reasons)) == {"results.truncated"}


@pytest.mark.parametrize("text", ["", " \n", "\u200b\ufeff"])
def test_invisible_answers_that_do_not_stop_are_one_fault(text: str) -> None:
    reasons = pa.array(["length"] * 30 + ["stop"] * 10)
    table = generated([text] * 30 + GOOD[30:], GOOD)
    place = table.schema.get_field_index("finish_reason")
    result = validate_results(table.set_column(place, "finish_reason", reasons))
    (fault,) = [fault for fault in result.errors if fault.code != "results.lengths"]
    assert fault.code == "results.invisible"
    assert fault.message.startswith("30 of 40 answers are white space or special tokens alone, up to the maximum")
    assert fault.message.endswith("and 27 more)")
    assert not {"results.empty", "results.truncated"} & {each.code for each in result.warnings}


def test_json_mode_is_requested_only_if_every_reference_is_json() -> None:
    references = [f'{{"n": {i}}}' for i in range(40)]
    assert codes(generated(["not json at all", *references[1:]], references)) == {"results.format"}
    assert codes(generated(["no json", *references[1:]], ["text", *references[1:]])) == set()


def test_texts_far_longer_than_the_references() -> None:
    assert codes(generated([text * 3 for text in GOOD], GOOD)) == {"results.lengths"}


def test_a_constant_label_and_invalid_answers_are_reported() -> None:
    table = synthetic.scores(0.8)
    place = table.schema.get_field_index("predicted_label")
    same = table.set_column(place, "predicted_label", pa.array(["HUM"] * 200))
    assert codes(same) == {"results.collapsed"}
    none = [None, *table["predicted_label"].to_pylist()[1:]]
    assert codes(table.set_column(place, "predicted_label", pa.array(none, pa.string()))) == {"results.not-a-label"}


def test_a_label_that_is_answered_far_too_often() -> None:
    table = synthetic.scores(0.95)
    often = ["HUM" if i % 3 == 0 else label for i, label in enumerate(table["predicted_label"].to_pylist())]
    result = validate_results(
        table.set_column(table.schema.get_field_index("predicted_label"), "predicted_label", pa.array(often))
    )
    assert [fault.code for fault in result.warnings] == ["results.labels"]
    assert "'HUM' is answered" in result.warnings[0].message


def test_ordinary_text_is_no_loop() -> None:
    assert not is_loop("ha ha ha")
    assert not is_loop("1, 2, 3, 4, 5, 6, 7, 8, 9, 10")
    assert not is_loop("")
