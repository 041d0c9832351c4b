"""Bootstrap intervals against the plain recipe, and what paired comparison promises."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from kamerton.errors import UserError
from kamerton.score import intervals as statistics
from kamerton.score.intervals import intervals, joined, paired_differences
from kamerton.score.metrics import compute
from kamerton.score.table import scores_table
from support import synthetic

METRICS = {"loss", "perplexity", "token_accuracy", "accuracy", "f1", "precision", "recall"}


def by_the_book(table: pa.Table, metric: str, resamples: int, seed: int) -> np.ndarray:
    """The metric computed from scratch on every resample."""
    draws = np.random.default_rng(seed).integers(table.num_rows, size=(resamples, table.num_rows))
    return np.array([compute(table.take(pa.array(draw)))[metric] for draw in draws])


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_intervals_are_percentiles_of_the_metric_on_resamples(metric: str) -> None:
    table = synthetic.scores(0.7, rows=60)
    expected = np.quantile(by_the_book(table, metric, 40, seed=5), [0.05, 0.95])
    assert intervals(table, resamples=40, level=0.9, seed=5)[metric] == pytest.approx(tuple(expected), abs=1e-12)


def test_every_metric_has_an_interval_around_its_value() -> None:
    table = synthetic.scores(0.8, rows=300)
    result, values = intervals(table), compute(table)
    assert set(result) == METRICS | {"f1_micro", "f1_weighted", "ece"}
    for name, (low, high) in result.items():
        assert low < values[name] < high


def test_answers_outside_the_labels_count_as_wrong_in_intervals() -> None:
    table = synthetic.scores(0.7, rows=60)
    position = table.schema.get_field_index("predicted_label")
    some = pa.array([None if i % 5 == 0 else label for i, label in enumerate(table["predicted_label"].to_pylist())])
    table = table.set_column(position, "predicted_label", some.cast(pa.string()))
    for metric in ("accuracy", "f1", "precision"):
        expected = np.quantile(by_the_book(table, metric, 40, seed=1), [0.025, 0.975])
        assert intervals(table, resamples=40, seed=1)[metric] == pytest.approx(tuple(expected), abs=1e-12)


def test_the_same_seed_gives_the_same_interval_however_memory_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    table = synthetic.scores(0.8)
    whole = intervals(table, resamples=300, seed=3)
    monkeypatch.setattr(statistics, "_CELLS_AT_ONCE", 7 * table.num_rows)
    assert intervals(table, resamples=300, seed=3) == whole
    assert intervals(table, resamples=300, seed=4) != whole


def test_the_coverage_of_the_interval_is_about_nominal() -> None:
    generator, hits = np.random.default_rng(0), 0
    table = synthetic.scores(0.8, rows=150)
    label = table["label"].combine_chunks()
    other = pa.array([synthetic.LABELS[(synthetic.LABELS.index(name) + 1) % 6] for name in label.to_pylist()])
    for _ in range(150):
        right = pa.array(generator.random(150) < 0.8)
        position = table.schema.get_field_index("predicted_label")
        drawn = table.set_column(position, "predicted_label", pa.compute.if_else(right, label, other))
        low, high = intervals(drawn, resamples=400)["accuracy"]
        hits += low <= 0.8 <= high
    assert 0.89 <= hits / 150 <= 0.99


def of_confidence(confidence: np.ndarray, right: np.ndarray) -> pa.Table:
    """A table of two labels whose answers have these probabilities."""
    logprobs = np.log(np.stack([confidence, 1 - confidence], axis=-1))
    same = {"prompt": "", "target": "", "metadata": "{}", "target_tokens": 1, "predicted_label": "a"}
    rows = [
        same | {"example_id": f"{at:05}", "label": "a" if hit else "b", "label_logprobs": pair}
        for at, (hit, pair) in enumerate(zip(right, logprobs.tolist(), strict=True))
    ]
    return scores_table(rows, ["a", "b"])


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_the_interval_of_the_calibration_error_covers_it_also_where_it_is_zero(shift: float) -> None:
    generator, hits = np.random.default_rng(0), 0
    for _ in range(60):
        confidence = generator.uniform(0.5, 1, 200)
        table = of_confidence(confidence, generator.random(200) < confidence - shift)
        low, high = intervals(table, resamples=200)["ece"]
        hits += low - 1e-12 <= shift <= high  # within each bin the gap is the shift
        assert low <= compute(table)["ece"] <= high
    assert hits >= 55


def test_the_interval_of_the_calibration_error_is_the_bootstraps_moved_down_by_its_bias() -> None:
    table = synthetic.scores(0.7, rows=60)
    sample = by_the_book(table, "ece", 40, seed=5)
    low, high = np.quantile(sample, [0.025, 0.975]) + compute(table)["ece"] - sample.mean()
    result = intervals(table, resamples=40, seed=5)["ece"]
    assert result[1] == pytest.approx(high, abs=1e-12)
    assert 0 <= result[0] < low - 0.01


def test_equally_calibrated_models_do_not_differ_because_of_their_confidence() -> None:
    generator, claims = np.random.default_rng(1), 0
    for _ in range(40):
        sure, unsure = np.full(300, 0.97), generator.uniform(0.4, 0.9, 300)
        tables = [of_confidence(item, generator.random(300) < item) for item in (sure, unsure)]
        result = paired_differences(*tables, resamples=200)["ece"]
        claims += not result["low"] <= 0 <= result["high"]
    assert claims <= 3


def test_unlabelled_and_empty_tables() -> None:
    unlabelled = set(intervals(synthetic.scores(0.8, labelled=False)))
    assert {"loss", "perplexity", "token_accuracy", "exact_match", "chrf"} <= unlabelled
    assert not {"accuracy", "f1"} & unlabelled
    assert intervals(synthetic.scores(0.8).slice(0, 0)) == {}


def test_a_metric_that_is_not_finite_has_no_interval() -> None:
    table = synthetic.scores(0.8, rows=20)
    broken = pa.array([float("nan"), *[1.0] * 19])
    table = table.set_column(table.schema.get_field_index("nll"), "nll", broken)
    assert "loss" not in intervals(table)
    assert "accuracy" in intervals(table)


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_a_paired_difference_is_tuned_minus_base(metric: str) -> None:
    base, tuned = synthetic.scores(0.3, seed=1), synthetic.scores(0.8, seed=2)
    result = paired_differences(base, tuned)[metric]
    assert result["difference"] == pytest.approx(compute(tuned)[metric] - compute(base)[metric], abs=1e-12)
    assert result["low"] < result["difference"] < result["high"]


def test_pairs_are_resampled_together() -> None:
    base, tuned = synthetic.scores(0.5, rows=50, seed=1), synthetic.scores(0.6, rows=50, seed=2)
    values = by_the_book(tuned, "loss", 40, seed=0) - by_the_book(base, "loss", 40, seed=0)
    low, high = np.quantile(values, [0.025, 0.975])
    result = paired_differences(base, tuned, resamples=40)["loss"]
    assert (result["low"], result["high"]) == pytest.approx((low, high), abs=1e-12)


def test_rows_are_joined_on_the_example_id_in_any_order() -> None:
    base, tuned = synthetic.scores(0.5, seed=1), synthetic.scores(0.6, seed=2)
    shuffled = tuned.take(pa.array(np.random.default_rng(0).permutation(tuned.num_rows)))
    assert paired_differences(base, shuffled) == paired_differences(base, tuned)


def test_a_model_does_not_differ_from_itself() -> None:
    table = synthetic.scores(0.6)
    assert paired_differences(table, table)["accuracy"] == {"difference": 0, "low": 0, "high": 0}


def test_different_examples_are_refused_by_name() -> None:
    whole = synthetic.scores(0.6)
    with pytest.raises(UserError, match=r"0 only in the base table, 2 only in the tuned table \(0{16}, 0{15}1\)"):
        paired_differences(whole.slice(2), whole)


def test_repeated_examples_are_refused() -> None:
    whole = synthetic.scores(0.6)
    with pytest.raises(UserError, match="base score table repeats 1 example ids"):
        joined(pa.concat_tables([whole, whole.slice(0, 1)]), whole)
