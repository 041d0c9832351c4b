"""Scores of preferences: one row a pair, and metrics that equal a plain computation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from kamerton.objective.judgements import JudgedRows
from kamerton.objective.pairs import PreferenceRows
from kamerton.score.intervals import intervals, paired_differences
from kamerton.score.judged import has_judgements, judged_table
from kamerton.score.metrics import compute, example_scores
from kamerton.score.pairs import has_pairs, pairs_table
from kamerton.score.preferences import main_metric, rows_word, shown_metrics
from kamerton.score.references import incomparable, same_reference
from kamerton.score.table import read_scores, scores_table, write_scores

NLL = [4.0, 6.5, 3.0, 3.5, 9.0, 2.0, 7.0]
TOKENS = [4, 5, 2, 3, 9, 2, 5]
REFERENCE = [-5.0, -6.0, -3.5, -3.0, -9.5, -2.5, -6.0]


def completions(nll: Sequence[float] = NLL, tokens: Sequence[int] = TOKENS) -> pa.Table:
    rows = [
        {"example_id": f"id{i}", "prompt": f"prompt {i}", "target": f"text {i}", "nll": value, "target_tokens": size,
         "correct_tokens": 1, "metadata": "{}"}
        for i, (value, size) in enumerate(zip(nll, tokens, strict=True))
    ]  # fmt: skip
    return scores_table(rows, None)


def preferences(*examples: Sequence[float], reference: Sequence[float] = REFERENCE) -> PreferenceRows:
    """Rows with the scores of the completions of each example."""
    sizes = [len(scores) for scores in examples]
    starts = np.cumsum([0, *sizes[:-1]])
    scores = np.array([score for one in examples for score in one])
    size = len(scores)
    return PreferenceRows(
        scores, np.array(reference[:size]), np.array(TOKENS[:size], np.int32), starts, np.ones(len(examples))
    )


def two_pairs(nll: Sequence[float] = NLL[:4], *, beta: float = 0.5, reference: bool = True) -> pa.Table:
    """Scores of two pairs, whose first completion is the chosen one."""
    rows = preferences([1, 0], [1, 0])
    return pairs_table(completions(nll, TOKENS[:4]), rows, beta=beta, reference=reference)


def test_a_pair_is_one_row_with_both_completions() -> None:
    table = two_pairs()
    assert table["example_id"].to_pylist() == ["id0", "id2"]
    assert table["target"].to_pylist() == ["text 0", "text 2"]
    assert table["rejected"].to_pylist() == ["text 1", "text 3"]
    assert table["nll"].to_pylist() == [4.0, 3.0]
    assert table["rejected_nll"].to_pylist() == [6.5, 3.5]
    assert table["rejected_tokens"].to_pylist() == [5, 3]
    assert table["reference_logprob"].to_pylist() == [-5.0, -3.5]
    assert table["rejected_reference_logprob"].to_pylist() == [-6.0, -3.0]
    assert (rows_word(table), main_metric(table), has_judgements(table)) == ("pairs", "preference_accuracy", False)


def test_the_chosen_completion_need_not_be_the_first() -> None:
    table = pairs_table(completions(NLL[:2], TOKENS[:2]), preferences([0, 1]), beta=1.0, reference=True)
    assert (table["target"][0].as_py(), table["rejected"][0].as_py()) == ("text 1", "text 0")
    assert table["example_id"].to_pylist() == ["id0"]


def test_a_ranking_has_a_row_for_each_pair_with_an_id_of_its_own() -> None:
    table = pairs_table(completions(), preferences([3, 2, 1], [1, 0], [2, 1]), beta=1.0, reference=True)
    sides = list(zip(table["target"].to_pylist(), table["rejected"].to_pylist(), strict=True))
    assert sides[:3] == [("text 0", "text 1"), ("text 0", "text 2"), ("text 1", "text 2")]
    ids = table["example_id"].to_pylist()
    assert ids[3:] == ["id3", "id5"]
    assert len(set(ids)) == 5
    again = pairs_table(completions(NLL[:3], TOKENS[:3]), preferences([3, 2, 1]), beta=0.1, reference=False)
    assert again["example_id"].to_pylist() == ids[:3]


def test_completions_of_equal_score_are_not_compared() -> None:
    table = pairs_table(completions(NLL[:4], TOKENS[:4]), preferences([2, 1, 1, 2]), beta=1.0, reference=True)
    sides = set(zip(table["target"].to_pylist(), table["rejected"].to_pylist(), strict=True))
    assert sides == {(f"text {better}", f"text {worse}") for better in (0, 3) for worse in (1, 2)}


def test_metrics_equal_a_plain_computation() -> None:
    metrics = compute(two_pairs())
    rewards = [(0.5 * (-4 + 5), 0.5 * (-6.5 + 6)), (0.5 * (-3 + 3.5), 0.5 * (-3.5 + 3))]
    assert metrics["reward_chosen"] == pytest.approx((rewards[0][0] + rewards[1][0]) / 2)
    assert metrics["reward_rejected"] == pytest.approx((rewards[0][1] + rewards[1][1]) / 2)
    assert metrics["margin"] == pytest.approx(sum(chosen - rejected for chosen, rejected in rewards) / 2)
    assert metrics["preference_accuracy"] == 1.0
    assert metrics["ranking_accuracy"] == 0.5  # −1 against −1.3 a token, −1.5 against −1.17
    assert (metrics["logprob_chosen"], metrics["logprob_rejected"]) == (-3.5, -5.0)
    assert (metrics["length_chosen"], metrics["length_rejected"]) == (3.0, 4.0)
    assert metrics["loss"] == pytest.approx((4 + 3) / (4 + 2))  # of the chosen completions


def test_without_a_reference_a_reward_is_the_log_probability_of_a_token() -> None:
    table = two_pairs(reference=False)
    assert table["reference_logprob"].null_count == table["rejected_reference_logprob"].null_count == 2
    metrics = compute(table)
    assert metrics["reward_chosen"] == pytest.approx(0.5 * (-4 / 4 - 3 / 2) / 2)
    assert metrics["reward_rejected"] == pytest.approx(0.5 * (-6.5 / 5 - 3.5 / 3) / 2)
    assert metrics["preference_accuracy"] == metrics["ranking_accuracy"] == 0.5


def test_a_model_that_equals_the_reference_prefers_neither_completion() -> None:
    rounding = 1e-6
    same = [-value + sign * rounding for value, sign in zip(REFERENCE[:4], (1, -1, -1, 1), strict=True)]
    metrics = compute(two_pairs(same))
    assert metrics["preference_accuracy"] == 0.5
    assert metrics["margin"] == pytest.approx(0, abs=1e-5)


def test_the_scores_of_each_pair_have_the_metrics_as_their_means() -> None:
    table = two_pairs()
    scores, metrics = example_scores(table), compute(table)
    assert scores["ranking_accuracy"].tolist() == [1.0, 0.0]
    for name in ("preference_accuracy", "ranking_accuracy", "margin"):
        assert scores[name].mean() == pytest.approx(metrics[name])


def test_judged_completions_have_a_row_each() -> None:
    rows = JudgedRows(preferences([1], [0], [0], [1]), np.zeros(4))
    table = judged_table(completions(NLL[:4], TOKENS[:4]), rows, beta=0.5, reference=True)
    assert table["desired"].to_pylist() == [True, False, False, True]
    assert (rows_word(table), main_metric(table), has_pairs(table)) == ("completions", "margin", False)
    metrics = compute(table)
    desired = (0.5 * (-4 + 5) + 0.5 * (-3.5 + 3)) / 2
    undesired = (0.5 * (-6.5 + 6) + 0.5 * (-3 + 3.5)) / 2
    assert metrics["reward_desired"] == pytest.approx(desired)
    assert metrics["reward_undesired"] == pytest.approx(undesired)
    assert metrics["margin"] == pytest.approx(desired - undesired)
    assert metrics["preference_accuracy"] is None


def test_the_accuracy_of_judged_completions_is_by_the_reference_point() -> None:
    """Rewards 0.5, -0.25, 0.25 and -0.25; completions of other prompts became likelier by 0.5 nats on average."""
    pairs = preferences([1], [0], [0], [1])
    rows = JudgedRows(pairs, np.array([-8.0, -9.0, -7.0, -8.0]))
    others = np.array([-7.0, -9.0, -6.0, -8.0])
    table = judged_table(completions(NLL[:4], TOKENS[:4]), rows, beta=0.5, reference=True, others=others)
    assert table["reference_point"].to_pylist() == [0.25] * 4
    assert example_scores(table)["preference_accuracy"].tolist() == [1.0, 1.0, 0.5, 0.0]
    assert compute(table)["preference_accuracy"] == 2.5 / 4
    less_likely = judged_table(completions(NLL[:4], TOKENS[:4]), rows, beta=0.5, reference=True, others=others - 9)
    assert less_likely["reference_point"].to_pylist() == [0.0] * 4  # as in the loss
    without = judged_table(completions(NLL[:4], TOKENS[:4]), rows, beta=0.5, reference=False, others=others)
    assert compute(without)["preference_accuracy"] is None
    assert "preference_accuracy" not in example_scores(without)


def test_of_several_completions_the_best_ones_are_desired() -> None:
    rows = JudgedRows(preferences([2, 1, 2], [0]), np.zeros(4))
    assert judged_table(completions(NLL[:4], TOKENS[:4]), rows, beta=1.0, reference=True)["desired"].to_pylist() == [
        *(True, False, True),
        False,
    ]


def test_a_file_of_scores_gives_the_same_metrics_and_intervals(tmp_path: Path) -> None:
    judged = judged_table(
        completions(NLL[:4], TOKENS[:4]),
        JudgedRows(preferences([1], [0], [0], [1]), np.zeros(4)),
        beta=0.3,
        reference=True,
    )
    for table in (two_pairs(), two_pairs(reference=False), judged):
        write_scores(table, tmp_path / "test.parquet")
        again = read_scores(tmp_path / "test.parquet")
        assert compute(again) == compute(table)
        assert intervals(again) == intervals(table)


def test_no_pair_has_no_metrics() -> None:
    metrics = compute(two_pairs().slice(0, 0))
    assert metrics["preference_accuracy"] is metrics["margin"] is metrics["loss"] is None


def test_differences_between_models_are_paired_by_pair() -> None:
    base, tuned = two_pairs([5.0, 6.0, 3.5, 3.0]), two_pairs()
    result = paired_differences(base, tuned.take([1, 0]))
    assert result["preference_accuracy"]["difference"] == 0.5
    assert result["margin"]["difference"] == pytest.approx(compute(tuned)["margin"])


def test_rewards_against_another_reference_are_not_comparable() -> None:
    table, other = two_pairs(), two_pairs(beta=0.1)
    moved = table.set_column(
        table.column_names.index("reference_logprob"), "reference_logprob", pa.array([-5.0, -4.5], pa.float64())
    )
    nearly = table.set_column(
        table.column_names.index("reference_logprob"), "reference_logprob", pa.array([-5.00001, -3.5], pa.float64())
    )
    assert same_reference(table, table)
    assert same_reference(table, nearly)
    assert not same_reference(table, moved)
    assert not same_reference(table, two_pairs(reference=False))
    assert same_reference(two_pairs(reference=False), two_pairs(reference=False))
    assert [
        incomparable(name, table, moved) for name in ("preference_accuracy", "margin", "ranking_accuracy", "loss")
    ] == [
        *(True, True),
        *(False, False),
    ]
    assert not incomparable("preference_accuracy", table, other)  # another beta only scales the rewards
    assert incomparable("margin", table, other)
    assert not incomparable("preference_accuracy", completions(), completions())


def test_people_are_shown_the_metrics_that_say_something() -> None:
    names = ("loss", "perplexity", "token_accuracy", "margin", "length_chosen")
    assert shown_metrics(two_pairs(), names) == {"loss": "loss (chosen)", "margin": "margin"}
    judged = judged_table(
        completions(NLL[:2], TOKENS[:2]), JudgedRows(preferences([1], [0]), np.zeros(2)), beta=0.3, reference=True
    )
    assert list(shown_metrics(judged, names)) == ["margin"]
    assert list(shown_metrics(completions(), names)) == list(names)
    assert all(math.isfinite(value) for value in compute(two_pairs()).values() if value is not None)
