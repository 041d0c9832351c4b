"""The headline reports the result, also if it is bad or unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from kamerton import words
from kamerton.decide.report import verdict
from kamerton.decide.report.metric_tables import baseline_table, metric_table
from kamerton.decide.report.run_files import RunFiles
from kamerton.run.record import parse_record
from kamerton.score.metrics import compute
from support import synthetic


def judged(base: pa.Table | None, tuned: pa.Table | None, **record: Any) -> tuple[str, str, list[str], list[str]]:
    """Headline, tone, cautions and remarks of a run with these score tables."""
    run = RunFiles(Path("trec/ab12"), record=parse_record(record), base=base, tuned=tuned)
    rows, remarks = metric_table(run)
    return *verdict.headline(run, rows), verdict.cautions(run, rows), remarks


def test_a_better_model_is_called_better_with_its_numbers() -> None:
    base, tuned = synthetic.scores(0.1, seed=1), synthetic.scores(0.9, seed=2)
    sentence, tone, cautions, remarks = judged(base, tuned)
    before, after = compute(base)["accuracy"], compute(tuned)["accuracy"]
    assert sentence.startswith(f"Better than the base model: accuracy {before:.3f} → {after:.3f} on 200 test examples")
    assert f"difference +{after - before:.3f} [" in sentence
    assert (tone, cautions, remarks) == ("good", [], [])


def test_a_worse_model_is_called_worse() -> None:
    sentence, tone, _, _ = judged(synthetic.scores(0.9, seed=1), synthetic.scores(0.5, seed=2))
    assert sentence.startswith("Worse than the base model")
    assert tone == "bad"


def test_a_difference_within_chance_is_called_unclear() -> None:
    sentence, tone, _, _ = judged(synthetic.scores(0.7, seed=1), synthetic.scores(0.7, seed=2))
    assert sentence.startswith("No clear change from the base model")
    assert sentence.endswith("may be chance.")
    assert tone == "open"


def test_equal_answers_are_no_change() -> None:
    table = synthetic.scores(0.7)
    assert judged(table, table)[0].startswith("No change from the base model")


def test_without_labels_a_lower_loss_is_better() -> None:
    base, tuned = (synthetic.scores(share, labelled=False, seed=1) for share in (0.2, 0.9))
    assert judged(base, tuned)[0].startswith("Better than the base model: loss ")
    assert judged(tuned, base)[0].startswith("Worse than the base model: loss ")


def test_a_custom_metric_defines_its_direction() -> None:
    def with_errors(value: float, metadata: dict[bytes, bytes]) -> pa.Table:
        table = synthetic.scores(0.7)
        metadata = {**table.schema.metadata, **metadata}
        return table.append_column("metric:errors", pa.array([value] * 200)).replace_schema_metadata(metadata)

    for metadata, expected in (({}, "worse"), ({b"lower_is_better": b'["errors"]'}, "better")):
        run = RunFiles(Path("trec/ab12"), base=with_errors(3.0, metadata), tuned=with_errors(1.0, metadata))
        rows, _ = metric_table(run)
        (row,) = (row for row in rows if row["name"] == "errors")
        assert row["verdict"] == expected


def test_a_missing_base_or_test_is_reported() -> None:
    assert judged(None, synthetic.scores(0.9))[0].endswith("the base model was not scored.")
    assert judged(None, None)[0].startswith("There is no test result, so the quality of the model is unknown")
    assert "the validation loss of the best weights is 0.410" in judged(None, None, metrics={"best": {"loss": 0.41}})[0]


def test_without_tables_the_recorded_metrics_are_used_without_claims() -> None:
    metrics = {"base": {"accuracy": 0.1}, "test": {"accuracy": 0.9}}
    sentence, tone, _, _ = judged(None, None, metrics=metrics)
    assert sentence == "Accuracy 0.100 → 0.900 on the test split; the significance of the difference is unknown."
    assert tone == "open"


def test_tables_of_different_examples_give_no_difference() -> None:
    sentence, _, _, remarks = judged(synthetic.scores(0.1, rows=100), synthetic.scores(0.9, rows=90))
    assert sentence.endswith("is unknown.")
    assert "10 only in the base table" in remarks[0]


def test_a_record_that_disagrees_with_the_table_is_reported() -> None:
    tuned = synthetic.scores(0.9)
    honest = compute(tuned)
    assert judged(None, tuned, metrics={"test": honest})[3] == []
    remarks = judged(None, tuned, metrics={"test": honest | {"accuracy": 0.99}})[3]
    assert remarks[0].startswith("run.json has test accuracy 0.99")


def test_the_majority_baseline_uses_the_training_labels() -> None:
    tuned = synthetic.scores(0.9)
    place = tuned.schema.get_field_index("predicted_label")
    majority = tuned.set_column(place, "predicted_label", pa.array(["LOC"] * 200))  # of training; in test it is another
    accuracy = compute(majority)["accuracy"]
    for baselines, whose in (({"majority": majority}, "training"), ({}, "this test split")):
        run = RunFiles(Path("trec/ab12"), tuned=tuned, baselines=baselines)
        rows, _ = metric_table(run)
        text = verdict.comparison(run, rows) or ""
        assert f"the most frequent label of {whose}" in text
        assert (
            f"always answering “LOC”, the most frequent label of {whose}, would reach accuracy {accuracy:.3f}" in text
        ) == bool(baselines)
    run = RunFiles(Path("trec/ab12"), tuned=tuned, baselines={"majority": majority})
    assert f"accuracy {baseline_table(run)[0]['metrics']['accuracy']:.3f}." in str(verdict.comparison(run, rows))


def test_cautions_name_small_tests_perfect_scores_and_collapse() -> None:
    perfect = synthetic.scores(1.0, rows=20)
    cautions = judged(None, perfect)[2]
    assert "Only 20 test examples" in cautions[0]
    assert "0.150 of all answers may still be wrong" in cautions[1]
    position = perfect.schema.get_field_index("predicted_label")
    collapsed = perfect.set_column(position, "predicted_label", pa.array(["ABBR"] * 20))
    assert judged(None, collapsed)[2][1:] == [
        "The model is no better than always giving the most frequent label.",
        "The model gives every example the same answer: “ABBR”.",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.9071, "0.907"), (-0.5, "−0.500"), (12.3456, "12.35"), (1234.6, "1,235"), (123456.0, "123,456"), (None, "–"),
     (float("nan"), "–"), (0.0, "0.000")],
)  # fmt: skip
def test_numbers_have_sensible_digits(value: float | None, text: str) -> None:
    assert words.number(value) == text


@pytest.mark.parametrize(("value", "text"), [(1e-9, "<0.001"), (0.9999, ">0.999"), (1.0, "1.000"), (0.5, "0.500")])
def test_probabilities_are_never_rounded_to_certainty(value: float, text: str) -> None:
    assert words.probability(value) == text


def test_answers_outside_the_labels_cause_a_caution() -> None:
    tuned = synthetic.scores(0.9, seed=2)
    guesses = pa.array([None, *tuned["predicted_label"].to_pylist()[1:]], pa.string())
    tuned = tuned.set_column(tuned.schema.get_field_index("predicted_label"), "predicted_label", guesses)
    _, _, cautions, _ = judged(synthetic.scores(0.1, seed=1), tuned)
    assert any(caution.startswith("1 of 200 answers are none of the labels (0000000000000000)") for caution in cautions)
