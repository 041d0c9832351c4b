"""Differences: the right test for each metric, its numbers, and verdicts that follow the corrected p-value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from kamerton.decide.compare.assess import COHEN_G, STANDARDISED, Measured, describe, differences, measure, metrics_of
from kamerton.decide.compare.comparison import Difference
from kamerton.decide.compare.configurations import Group, ScoredRun
from kamerton.decide.compare.confusions import changed_examples
from kamerton.decide.compare.significance import holm, mcnemar
from kamerton.decide.compare.slices import slice_by, slice_metrics
from kamerton.score.intervals import paired_differences
from kamerton.score.metrics import compute
from kamerton.score.table import scores_table
from support import synthetic


def group(name: str, *tables: pa.Table, trained: bool = True) -> Group:
    return Group(name, tuple(ScoredRun(Path(f"{name}{i}"), table, trained=trained) for i, table in enumerate(tables)))


def result(sides: list[Measured], metric: str, candidate: str = "new") -> Difference:
    (difference,) = [
        difference
        for difference in differences(sides, metrics_of(sides), permutations=999)
        if difference.metric == metric and difference.candidate == candidate
    ]
    return difference


def test_accuracy_is_tested_by_mcnemar_and_bounded_by_the_paired_bootstrap() -> None:
    old, new = synthetic.scores(0.8, seed=1), synthetic.scores(0.86, seed=2)
    difference = result(measure([group("old", old), group("new", new)]), "accuracy")
    right = [np.array(table["label"]) == np.array(table["predicted_label"]) for table in (old, new)]
    fixed, broken = int((~right[0] & right[1]).sum()), int((right[0] & ~right[1]).sum())
    assert (difference.fixed, difference.broken, difference.p) == (fixed, broken, mcnemar(fixed, broken).p)
    assert difference.odds_ratio == fixed / broken
    assert (difference.effect_name, difference.effect) == (COHEN_G, fixed / (fixed + broken) - 0.5)
    peer = paired_differences(old, new)["accuracy"]
    assert (difference.difference, difference.low, difference.high) == pytest.approx(
        (peer["difference"], peer["low"], peer["high"])
    )
    assert difference.detectable == pytest.approx(
        2.80 * np.std(right[1] * 1.0 - right[0] * 1.0) / np.sqrt(200), rel=0.06
    )


def test_a_paired_bootstrap_of_a_mean_is_scipys() -> None:
    old, new = synthetic.scores(0.6, seed=1), synthetic.scores(0.8, seed=2)
    right = [(np.array(table["label"]) == np.array(table["predicted_label"])) * 1.0 for table in (old, new)]
    peer = stats.bootstrap(
        tuple(right),
        lambda first, second, axis: second.mean(axis=axis) - first.mean(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=500,
        vectorized=True,
        rng=np.random.default_rng(0),
    ).confidence_interval
    ours = paired_differences(old, new, resamples=500)["accuracy"]
    assert (ours["low"], ours["high"]) == pytest.approx((peer.low, peer.high), abs=1e-9)


def test_loss_is_tested_by_swapping_the_answers_of_examples() -> None:
    old, new = synthetic.scores(0.8, rows=10, seed=1), synthetic.scores(0.3, rows=10, seed=2)
    difference = result(measure([group("old", old), group("new", new)]), "loss")
    change = new["nll"].to_numpy() - old["nll"].to_numpy()  # as many tokens each: a mean
    signs = 1 - 2 * ((np.arange(2**10)[:, None] >> np.arange(10)) & 1)
    expected = np.mean(np.abs(signs @ change) >= abs(change.sum()) - 1e-9)
    assert difference.p == pytest.approx(expected, abs=1e-9)
    assert (difference.test, difference.effect_name) == ("permutation, exact", STANDARDISED)
    assert difference.p_worse < 0.5 < 1 - difference.p_worse  # a higher loss is worse


def test_every_metric_but_calibration_is_tested() -> None:
    sides = measure([group("old", synthetic.scores(0.3, seed=1)), group("new", synthetic.scores(0.9, seed=2))])
    verdicts = {
        difference.metric: difference.verdict for difference in differences(sides, metrics_of(sides), permutations=499)
    }
    assert verdicts.pop("ece") == "not tested"
    calibration = result(sides, "ece")
    assert calibration.low < calibration.difference < calibration.high < 0
    assert (calibration.p, calibration.detectable) == (None, None)
    assert set(verdicts.values()) == {"better"}
    labelled = {"accuracy", "f1", "precision", "recall", "f1_micro", "f1_weighted"}
    assert set(verdicts) == {"loss", "perplexity", "token_accuracy"} | labelled


def test_answers_without_a_custom_metric_are_not_paired() -> None:
    def judged(values: list[float | None]) -> pa.Table:
        return synthetic.scores(0.7).append_column("metric:mine", pa.array(values, pa.float64()))

    pattern = [1.0, 0.0] * 99
    old, new = judged([None, None, *pattern]), judged([*pattern, None, None])
    item = result(measure([group("old", old), group("new", new)]), "mine")
    assert (item.fixed, item.broken, item.test) == (None, None, "permutation")
    (part,) = slice_by(measure([group("old", old), group("new", new)]), {"all": ["x"] * 200}, "mine")
    assert part.verdict == "no difference shown"
    shifted = judged([None, 0.0, *([1.0, 0.0] * 99)])
    assert result(measure([group("old", old), group("new", shifted)]), "mine").test == "permutation"


def test_a_model_is_not_better_than_itself() -> None:
    table = synthetic.scores(0.7)
    for difference in differences(measure([group("old", table), group("new", table)]), ["accuracy", "loss", "f1"], 99):
        assert (difference.difference, difference.p, difference.verdict) == (0, 1, "no difference shown")


def test_p_values_are_corrected_over_the_candidates_of_one_metric() -> None:
    old = group("old", synthetic.scores(0.80, seed=1))
    new = [group(f"new{i}", synthetic.scores(0.80 + i / 50, seed=2 + i)) for i in range(4)]
    one_metric = [
        difference
        for difference in differences(measure([old, *new]), ["accuracy", "loss"], 499)
        if difference.metric == "accuracy"
    ]
    assert [difference.p_holm for difference in one_metric] == pytest.approx(
        holm([difference.p for difference in one_metric])
    )
    assert min(difference.p_holm for difference in one_metric) == pytest.approx(
        4 * min(difference.p for difference in one_metric)
    )


def test_several_seeds_show_their_spread_and_are_tested_over_seeds_and_examples() -> None:
    tables = [synthetic.scores(accuracy, seed=seed) for seed, accuracy in enumerate((0.7, 0.8, 0.9))]
    sides = measure([group("base", synthetic.scores(0.3, seed=9), trained=False), group("new", *tables)])
    side = describe(sides[1], ["accuracy", "ece"], is_baseline=False)
    values = [compute(table)["accuracy"] for table in tables]
    estimate = side.metrics["accuracy"]
    assert estimate.by_run == tuple(values)
    assert estimate.value == pytest.approx(np.mean(values))
    assert estimate.spread == pytest.approx(np.std(values, ddof=1))
    assert estimate.low < min(values)
    assert estimate.high > max(values)  # three seeds that far apart leave much open
    assert result(sides, "accuracy").test == "t over seeds and examples"
    error, change = side.metrics["ece"], result(sides, "ece")
    assert 0 <= error.low < error.value < error.high
    assert change.low < change.difference < change.high
    assert change.verdict == "not tested"


def test_runs_with_other_tokens_are_not_compared_by_token() -> None:
    old = synthetic.scores(0.8, seed=1)
    place = old.schema.get_field_index("target_tokens")
    new = synthetic.scores(0.8, seed=2).set_column(place, "target_tokens", pa.array([4] * 200, pa.int32()))
    verdicts = {
        difference.metric: difference.verdict
        for difference in differences(measure([group("old", old), group("new", new)]), ["loss", "accuracy"], 99)
    }
    assert verdicts == {"loss": "not tested", "accuracy": "no difference shown"}


def test_without_token_counts_answers_are_compared() -> None:
    old, new = synthetic.scores(0.5, seed=1), synthetic.scores(0.9, seed=2)
    rows = [
        row | {"nll": None, "correct_tokens": None, "target_tokens": 0, "label_logprobs": None}
        for row in old.to_pylist()
    ]
    bare = scores_table(rows, synthetic.LABELS)
    sides = measure([group("old", bare, trained=False), group("new", new)])
    verdicts = {
        difference.metric: difference.verdict for difference in differences(sides, metrics_of(sides), permutations=499)
    }
    assert verdicts["accuracy"] == verdicts["f1"] == "better"
    assert verdicts["loss"] == verdicts["ece"] == "not tested"
    assert [difference.metric for difference in slice_by(sides, {"all": ["x"] * 200}, "accuracy")] == ["accuracy"]
    assert changed_examples(sides[0].group, sides[1].group).fixed_count > 0


def test_generated_texts_are_compared_by_every_text_metric() -> None:
    rows = synthetic.scores(0.8, rows=60, labelled=False).to_pylist()
    references = [f"the answer to number {i} is {i * 3} or so" for i in range(60)]

    def scores_with(right: int) -> pa.Table:
        texts = [text if i < right else f"the answer is {i}" for i, text in enumerate(references)]
        more = [{"target": t, "prediction": p, "finish_reason": "stop"} for t, p in zip(references, texts, strict=True)]
        return scores_table([row | each for row, each in zip(rows, more, strict=True)], None)

    sides = measure([group("old", scores_with(20)), group("new", scores_with(45))], resamples=200)
    by_metric = {
        difference.metric: difference for difference in differences(sides, metrics_of(sides), permutations=499)
    }
    exact = by_metric["exact_match"]
    assert (exact.test, exact.fixed, exact.broken) == ("McNemar, mid-p", 25, 0)
    for name in ("bleu", "chrf", "rougeL"):
        assert (by_metric[name].test, by_metric[name].verdict) == ("permutation", "better")
    assert {"exact_match", "rougeL"} <= set(slice_metrics(sides))
    assert "bleu" not in slice_metrics(sides)
