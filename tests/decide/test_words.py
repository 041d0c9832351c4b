"""The sentences of a comparison name the metric they are about, and the others that differ."""

from __future__ import annotations

from typing import Any

from kamerton.decide.compare.comparison import Comparison, Configuration, Difference, Slice
from kamerton.decide.compare.words import verdict_sentence
from kamerton.decide.report.comparison import contents, main_metric

BASE, OTHER = Configuration("old", ("a",), (1,), {}, True), Configuration("new", ("b",), (1,), {})


def difference(metric: str, verdict: Any, change: float = 0.1, candidate: str = "new") -> Difference:
    p = 0.001 if verdict in ("better", "worse") else 0.4
    return Difference(candidate, metric, 0.5, 0.5 + change, change, p=p, p_holm=p, verdict=verdict, test="McNemar")


def test_an_undecided_metric_does_not_hide_the_others() -> None:
    results = [
        difference("accuracy", "no difference shown"),
        difference("loss", "worse"),
        difference("token_accuracy", "worse"),
        difference("f1", "better"),
    ]
    text = verdict_sentence(OTHER, BASE, results, 36)
    assert text.startswith("new: no difference from old shown in Accuracy: 0.500 → 0.600 on 36 examples;")
    assert text.endswith(" Other metrics: worse in Loss and Token accuracy; better in F1 (macro).")


def test_long_lists_of_other_metrics_are_cut() -> None:
    names = ("loss", "perplexity", "recall", "precision", "f1", "f1_micro")
    text = verdict_sentence(OTHER, BASE, [difference("accuracy", "worse"), *(difference(n, "worse") for n in names)], 9)
    assert text.startswith("new is worse than old: Accuracy 0.500 → 0.600")
    assert text.endswith("and 2 more.")


def test_without_other_differences_nothing_is_added() -> None:
    text = verdict_sentence(OTHER, BASE, [difference("accuracy", "better"), difference("loss", "not tested")], 9)
    assert "Other metrics" not in text


def comparison(*differences: Difference, slices: tuple[Slice, ...] = ()) -> Comparison:
    names = dict.fromkeys(each.candidate for each in differences)
    sides = (BASE, *(Configuration(name, (name,), (1,), {}) for name in names))
    verdicts = {name: f"about {name}." for name in names}
    return Comparison("it", "test", 36, sides, differences, verdicts, slices)


def test_the_headline_of_several_candidates_names_its_metric_and_the_worst_slice() -> None:
    bounds = {"low": 0.0, "high": 0.3, "difference_low": -0.9, "difference_high": -0.6, "p_rest": 0.01}
    worse = Slice(
        "second", "label", "billing", "accuracy", 12, 0.9, 0.1, difference=-0.8, p=0.01, verdict="worse", **bounds
    )
    shown = contents(
        comparison(
            difference("accuracy", "no difference shown", candidate="first"),
            difference("accuracy", "better", candidate="second"),
            slices=(worse,),
        )
    )
    assert shown["headline"] == (
        "2 candidates against old, by Accuracy: 1 with no difference shown, 1 better."
        " Worse where label is billing (second)."
    )


def test_the_verdict_and_the_figures_are_about_the_same_metric() -> None:
    untested = Difference("new", "accuracy", 0.5, 0.5, 0.0)
    assert main_metric(comparison(untested, difference("loss", "worse"))) == "loss"
    assert main_metric(comparison(untested)) == "accuracy"
    assert main_metric(comparison()) is None
