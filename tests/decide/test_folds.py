"""Mean, spread and interval over folds."""

from __future__ import annotations

import numpy as np
import pytest

from kamerton.decide.report.folds import spreads


def test_the_interval_is_students_t_with_the_corrected_variance() -> None:
    accuracies = [0.90, 0.92, 0.88, 0.91, 0.93]
    result = spreads([{"accuracy": value} for value in accuracies], train=80, test=20)["accuracy"]
    deviation = np.std(accuracies, ddof=1)
    half = 2.7764451051977987 * deviation * np.sqrt(1 / 5 + 20 / 80)  # t(0.975, 4)
    assert result["mean"] == pytest.approx(0.908)
    assert result["deviation"] == pytest.approx(deviation)
    assert (result["low"], result["high"]) == pytest.approx((0.908 - half, 0.908 + half))


def test_no_bound_is_beyond_what_a_metric_can_be() -> None:
    folds = [{"accuracy": value, "loss": 1 - value} for value in (1.0, 0.9, 1.0)]
    result = spreads(folds, train=2, test=1)
    assert result["accuracy"]["high"] == 1
    assert result["loss"]["low"] == 0
    assert result["loss"]["high"] > 0.1


def test_a_metric_that_a_fold_lacks_has_no_spread() -> None:
    folds = [{"loss": 1.0, "f1": 0.5, "ece": None}, {"loss": 2.0, "ece": 0.1}]
    assert spreads(folds, train=3, test=1).keys() == {"loss"}
