"""Text metrics against sacrebleu, rouge_score and torchmetrics, for any texts."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF
from torchmetrics.functional.text import rouge_score, sacre_bleu_score
from torchmetrics.text import SQuAD

from kamerton.decide.compare.examples import is_right, worst
from kamerton.decide.compare.ratios import ratios
from kamerton.score.intervals import intervals
from kamerton.score.metrics import compute, example_scores
from kamerton.score.table import scores_table
from kamerton.score.text import normalised, text_counts, text_metrics, text_scores, tokens_13a

WORDS = ["the", "cat", "sat", "3.14", "on", "a", "mat", "mat.", "don't", "(yes)", "1,000", "-", "x-ray", "ŻABA", "ok!"]
texts = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join) | st.text(string.printable + "żé…&<>", max_size=30)
pairs = st.lists(st.tuples(texts, texts), min_size=1, max_size=8)


def corpus(rows: list[tuple[str, str]]) -> dict[str, float]:
    counts = text_counts([text for text, _ in rows], [target for _, target in rows])
    return {name: float(value) for name, value in text_metrics(counts.sum(axis=0)).items()}


@given(pairs)
@example([("", "")])
@example([("a b c", "")])
@example([("the the mat.", "the"), ("-\n", "")])
@settings(max_examples=150, deadline=None)
def test_bleu_and_chrf_are_those_of_sacrebleu(rows: list[tuple[str, str]]) -> None:
    result = corpus(rows)
    predictions, references = [text for text, _ in rows], [[target for _, target in rows]]
    assert result["bleu"] == pytest.approx(BLEU(force=True).corpus_score(predictions, references).score, abs=1e-6)
    assert result["chrf"] == pytest.approx(CHRF().corpus_score(predictions, references).score, abs=1e-6)
    alone = text_scores(text_counts(predictions, references[0]))
    sentence = BLEU(effective_order=True, force=True)
    for at, (text, target) in enumerate(rows):
        assert alone["bleu"][at] == pytest.approx(sentence.sentence_score(text, [target]).score, abs=1e-6)
        assert alone["chrf"][at] == pytest.approx(CHRF().sentence_score(text, [target]).score, abs=1e-6)


@given(pairs)
@settings(max_examples=100, deadline=None)
def test_rouge_is_that_of_rouge_score(rows: list[tuple[str, str]]) -> None:
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    alone = text_scores(text_counts([text for text, _ in rows], [target for _, target in rows]))
    for at, (text, target) in enumerate(rows):
        for name, score in scorer.score(target, text).items():
            assert alone[name][at] == pytest.approx(score.fmeasure, abs=1e-6), name
    assert corpus(rows)["rougeL"] == pytest.approx(alone["rougeL"].mean(), abs=1e-12)


def test_torchmetrics_agrees() -> None:
    rows = [
        ("the cat sat on the mat, and it purred.", "the cat sat on a mat and it purred loudly."),
        ("Prices rose by 3.5 % in May 2020.", "In May 2020, prices rose by 3.5 %."),
    ]
    predictions, references = [text for text, _ in rows], [target for _, target in rows]
    result = corpus(rows)
    bleu = sacre_bleu_score(predictions, [[target] for target in references])
    assert result["bleu"] == pytest.approx(100 * float(bleu), abs=1e-4)  # it counts in float32
    rouge = rouge_score(predictions, references, rouge_keys=("rouge1", "rouge2", "rougeL"))
    for name in ("rouge1", "rouge2", "rougeL"):
        assert result[name] == pytest.approx(float(rouge[f"{name}_fmeasure"]), abs=1e-6)


@given(pairs)
@settings(max_examples=60, deadline=None)
def test_normalised_match_is_the_exact_match_of_squad(rows: list[tuple[str, str]]) -> None:
    squad = SQuAD()
    for at, (text, target) in enumerate(rows):
        answers: Any = {"answers": {"answer_start": [0], "text": [target]}, "id": str(at)}
        squad.update([{"prediction_text": text, "id": str(at)}], [answers])
    assert corpus(rows)["normalised_match"] == pytest.approx(float(squad.compute()["exact_match"]) / 100, abs=1e-6)
    exact = np.mean([text.strip() == target.strip() for text, target in rows])
    assert corpus(rows)["exact_match"] == pytest.approx(float(exact))


def test_what_is_normalised_and_where_tokens_are_cut() -> None:
    assert normalised("The  Cat, a MAT!") == "cat mat"
    words = ["Hello", ",", "world", "!", "3.5", ",", "a-b", "3", "-", "4", '"', "x", '"']
    assert tokens_13a("Hello, world! 3.5, a-b 3-4 &quot;x&quot;") == words


def generated(rows: list[tuple[str | None, str]]) -> Any:
    return scores_table(
        [
            {
                "example_id": f"{at:016x}",
                "prompt": "p",
                "target": target,
                "prediction": text,
                "nll": 1.0,
                "target_tokens": 2,
                "correct_tokens": 1,
                "metadata": "{}",
                "finish_reason": None if text is None else "stop",
            }
            for at, (text, target) in enumerate(rows)
        ],
        None,
    )


def test_a_table_of_generated_texts_has_them_with_intervals() -> None:
    whole = "yes it is the same text"
    rows = [(whole, whole), ("no", "yes it is not"), ("maybe it is so", "maybe it is so or not"), (None, "it is")] * 10
    values = compute(generated(rows))
    assert {"exact_match", "normalised_match", "rouge1", "rouge2", "rougeL", "bleu", "chrf"} <= set(values)
    assert values["exact_match"] == 0.25
    result = intervals(generated(rows), resamples=200)
    for name in ("exact_match", "rougeL", "bleu", "chrf", "loss"):
        low, high = result[name]
        assert low <= values[name] <= high  # type: ignore[operator]
        assert (low < high) == (name != "loss")
    scores = example_scores(generated(rows))
    assert scores["exact_match"].tolist() == [1, 0, 0, 0] * 10


def test_a_generated_answer_is_correct_if_it_equals_the_reference() -> None:
    table = generated([("yes", " yes"), ("Yes.", "yes"), (None, "no"), ("no", "no")])
    assert is_right(table).tolist() == [True, False, False, True]
    result = ratios(table)
    assert result["exact_match"].numerator.tolist() == [1, 0, 0, 1]
    assert result["normalised_match"].numerator.tolist() == [1, 1, 0, 1]
    assert [row["target"] for row in worst(table)] == ["yes", "no"]


def test_bootstrapped_corpus_metrics_are_those_of_the_resampled_texts() -> None:
    rows = [("a b c d e", "a b c d f"), ("x y", "x y z"), ("the cat sat", "the cat sat on the mat"), ("q", "r")]
    draws = np.random.default_rng(4).integers(4, size=(5, 4))
    counts = text_counts([text for text, _ in rows], [target for _, target in rows])
    result = text_metrics(np.stack([counts[draw].sum(axis=0) for draw in draws]))
    for at, draw in enumerate(draws):
        again = corpus([rows[i] for i in draw])
        assert {name: float(values[at]) for name, values in result.items()} == pytest.approx(again)


def test_an_empty_table_has_no_text_metrics() -> None:
    counts = text_counts([], [])
    assert all(np.isnan(value) for value in text_metrics(counts.sum(axis=0)).values())
