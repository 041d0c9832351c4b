"""Each significance test against scipy or statsmodels, and its invariants."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as peer_mcnemar
from statsmodels.stats.multitest import multipletests

from kamerton.decide.compare.significance import (
    Runs,
    cohen_g,
    holm,
    mcnemar,
    over_seeds_and_examples,
    sign_flip,
)

COUNTS = st.integers(0, 60)


@given(COUNTS, COUNTS)
@settings(max_examples=60, deadline=None)
def test_mcnemar_agrees_with_statsmodels_and_mid_p_lies_below_the_exact_test(fixed: int, broken: int) -> None:
    if fixed + broken:
        peer = peer_mcnemar([[0, broken], [fixed, 0]], exact=True)
        tail = stats.binom.pmf(min(fixed, broken), fixed + broken, 0.5)
        assert mcnemar(fixed, broken).p == pytest.approx(min(1, peer.pvalue - tail) if fixed != broken else 1, abs=1e-9)
    assert mcnemar(fixed, broken).p == mcnemar(broken, fixed).p
    assert mcnemar(fixed, broken).p_lower == pytest.approx(mcnemar(broken, fixed).p_higher, abs=1e-12)


def test_mcnemar_looks_in_the_right_direction() -> None:
    assert mcnemar(20, 5).p_higher < 0.01 < mcnemar(20, 5).p_lower
    assert mcnemar(0, 0).p == 1


@given(st.lists(st.floats(-3, 3).map(lambda value: round(value, 2)), min_size=2, max_size=9))
@example([1.08, 0.34, -1.35, -0.07])  # sums to zero but for rounding
@settings(max_examples=40, deadline=None)
def test_every_way_of_flipping_signs_gives_scipys_permutation_test(differences: list[float]) -> None:
    values = np.array(differences)
    peer = stats.permutation_test(
        (values, np.zeros(len(values))),
        lambda first, second, axis: (first - second).mean(axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    # Means that are equal but for rounding are ties; scipy's own p-values count some of them and some not.
    law, seen, rounding = peer.null_distribution, peer.statistic, 1e-12
    result = sign_flip(values)
    assert result.p == pytest.approx(np.mean(np.abs(law) >= abs(seen) - rounding), abs=1e-9)
    assert result.p_lower == pytest.approx(np.mean(law <= seen + rounding), abs=1e-9)
    assert result.p_higher == pytest.approx(np.mean(law >= seen - rounding), abs=1e-9)


def test_random_flips_agree_with_the_exact_law_where_there_are_many_examples() -> None:
    values = np.random.default_rng(0).normal(0.15, 1, 200)
    result = sign_flip(values)
    assert result.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.015)
    assert result.p == sign_flip(values).p  # the same seed, the same answer
    assert sign_flip(np.zeros(50)).p == 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_holm_agrees_with_statsmodels(p_values: list[float]) -> None:
    with patch("gc.collect"):  # statsmodels does at every call, which takes long beside all other tests
        expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(list(expected), abs=1e-9)


def test_holm_leaves_out_what_was_not_tested() -> None:
    assert holm([0.01, None, 0.04]) == [0.02, None, 0.04]


def test_cohens_g() -> None:
    assert cohen_g(30, 10) == 0.25
    assert cohen_g(0, 0) is None


def examples_alike(values: list[float]) -> Runs:
    """Runs that answer every example alike, so that only the seeds vary."""
    return Runs(np.array(values), np.repeat(np.array(values)[:, None], 50, axis=1))


def test_without_variance_over_examples_seeds_are_compared_by_students_t_test() -> None:
    first, second = [0.71, 0.74, 0.69], [0.80, 0.78, 0.85, 0.79]
    spread = over_seeds_and_examples([examples_alike(first), examples_alike(second)], 500)
    peer = stats.ttest_ind(second, first)
    result = spread.test(float(np.mean(second) - np.mean(first)))
    assert result.p == pytest.approx(peer.pvalue, abs=1e-9)
    low, high = spread.bounds(float(np.mean(second) - np.mean(first)))
    assert (low, high) == pytest.approx(tuple(peer.confidence_interval()), abs=1e-9)


def test_a_single_run_borrows_the_variance_over_seeds() -> None:
    spread = over_seeds_and_examples([examples_alike([0.7]), examples_alike([0.78, 0.80, 0.85])], 500)
    peer = stats.ttest_ind([0.78, 0.80, 0.85], [0.7])  # pooled: a single value has no variance
    assert spread.test(float(np.mean([0.78, 0.80, 0.85]) - 0.7)).p == pytest.approx(peer.pvalue, abs=1e-9)


def test_runs_that_agree_by_luck_do_not_make_their_seeds_known() -> None:
    def of_chance(values: list[float], deviation: float, seed: int) -> Runs:
        noise = np.random.default_rng(seed).normal(0.8, deviation, (len(values), 4000))
        return Runs(np.array(values), noise)

    spread = over_seeds_and_examples([of_chance([0.8], 0.015, 1), of_chance([0.8, 0.8, 0.8], 0.01, 2)], 800)
    assert 2 < spread.df < 15  # three runs that happen to agree say no more of seeds than three others do


def test_a_base_model_has_no_seed_to_vary_with() -> None:
    base = Runs(np.array([0.1]), np.full((1, 50), 0.1), trained=False)
    spread = over_seeds_and_examples([base, examples_alike([0.78, 0.80, 0.85])], 500)
    peer = stats.ttest_1samp([0.78, 0.80, 0.85], 0.1)
    assert spread.test(float(np.mean([0.78, 0.80, 0.85]) - 0.1)).p == pytest.approx(peer.pvalue, abs=1e-9)


def test_seeds_that_do_not_differ_leave_the_variance_over_examples() -> None:
    generator = np.random.default_rng(1)
    resamples = generator.normal(0.8, 0.02, 4000)
    same = Runs(np.full(3, 0.8), np.repeat(resamples[None], 3, axis=0))
    spread = over_seeds_and_examples([same], 1000)
    assert spread.stderr == pytest.approx(resamples.std(ddof=1), rel=1e-9)
    assert spread.detectable() == pytest.approx(2.80 * spread.stderr, rel=0.01)


def test_equal_values_of_runs_that_answer_differently_are_not_certain() -> None:
    answers = np.array([[1, 1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1, 1, 1]])  # each gives one label to everything
    drawn = np.random.default_rng(0).integers(9, size=(4000, 9))
    runs = Runs(answers.mean(axis=1), answers[:, drawn].mean(axis=2))
    spread = over_seeds_and_examples([runs], 9)
    assert spread.stderr == pytest.approx(runs.resamples.mean(axis=0).std(ddof=1), rel=1e-9)
    low, high = spread.bounds(1 / 3)
    assert low < 1 / 3 < high


def test_runs_that_are_all_the_same_do_not_differ_by_rounding() -> None:
    same = Runs(np.full(3, 0.1 + 0.2), np.full((3, 50), 0.3))
    spread = over_seeds_and_examples([Runs(np.array([0.3]), np.full((1, 50), 0.3), trained=False), same], 500)
    assert (spread.stderr, spread.bounds(0.0), spread.test(1e-17).p) == (0, (0, 0), 1)
    assert spread.test(0.1).p_lower == 1 > spread.test(0.1).p == spread.test(0.1).p_higher


@pytest.mark.parametrize("spread", [0.0, 0.03])
def test_equal_configurations_differ_significantly_at_the_rate_of_the_level(spread: float) -> None:
    generator, claims, examples = np.random.default_rng(5), 0, 300
    weights = generator.multinomial(examples, np.full(examples, 1 / examples), size=200) / examples
    for _ in range(600):
        chance = np.clip(0.8 + generator.normal(0, spread, (6, 1)), 0, 1)
        right = (generator.random((6, examples)) < chance) * 1.0
        sides = [Runs(part.mean(axis=1), part @ weights.T) for part in (right[:3], right[3:])]
        claims += (
            over_seeds_and_examples(sides, examples).test(sides[1].values.mean() - sides[0].values.mean()).p < 0.05
        )
    assert 0.02 <= claims / 600 <= 0.08  # 5 %, three standard deviations of 600 trials either way
