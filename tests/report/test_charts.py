"""Curves and heat map show what the run logged, and no markup from labels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kamerton.report import charts


def rows(**columns: list[float]) -> charts.Curves:
    length = len(next(iter(columns.values())))
    names = {name.replace("_", "/", 1): values for name, values in columns.items()}
    return [{"step": i + 1.0, **{name: values[i] for name, values in names.items()}} for i in range(length)]


def test_loss_curves_show_train_and_validation_at_their_steps() -> None:
    curves = [*rows(train_loss=[3.0, 2.0, 1.0]), {"step": 3.0, "val/loss": 1.5}]
    traces = {trace.name: trace for trace in charts.loss_curves(curves).data}
    assert set(traces) == {"train", "train, smoothed", "validation"}
    assert list(traces["train"].y) == [3.0, 2.0, 1.0]
    assert (list(traces["validation"].x), list(traces["validation"].y)) == ([3.0], [1.5])


def test_scores_of_validations_have_a_curve_each() -> None:
    curves = [*rows(train_loss=[3.0, 2.0]), *({"step": s, "val/loss": 1.0, "val/accuracy": s / 4} for s in (1.0, 2.0))]
    curves.append({"step": 2.0, "val/f1": 0.75, "val/ece": 0.1})
    traces = {trace.name: (list(trace.x), list(trace.y)) for trace in charts.score_curves(curves).data}
    assert traces == {"Accuracy": ([1.0, 2.0], [0.25, 0.5]), "F1 (macro)": ([2.0], [0.75])}
    assert charts.score_curves(rows(train_loss=[3.0, 2.0])) is None


def test_without_values_there_is_no_figure() -> None:
    assert charts.loss_curves([]) is None
    assert charts.learning_rate_curve(rows(train_loss=[1.0])) is None


def test_smoothing_keeps_a_constant_and_passes_over_gaps() -> None:
    values = np.array([2.0, 2.0, math.nan, 2.0, math.inf, 2.0])
    assert charts.smoothed(values) == pytest.approx(np.full(6, 2.0))


def test_smoothing_does_not_lag_behind_a_trend() -> None:
    line = np.linspace(5, 1, 400)
    inner = slice(40, -40)
    assert charts.smoothed(line)[inner] == pytest.approx(line[inner])


def test_long_curves_are_averaged_without_losing_any_value() -> None:
    steps = np.arange(1, 4502.0)
    x, y, together = charts.thinned(steps, 2 * steps)
    assert together == 3
    assert len(x) <= charts.MAX_POINTS
    assert x[0] == 2.0
    assert y == pytest.approx(2 * x)
    weights = np.diff([*range(0, 4501, 3), 4501])
    assert (y * weights).sum() == pytest.approx((2 * steps).sum())


def test_the_heat_map_shows_counts_and_colours_by_row() -> None:
    cells = charts.confusion_heatmap(["a", "b"], np.array([[3, 1], [0, 0]])).data[0]
    assert cells.z.tolist() == [[0.75, 0.25], [0.0, 0.0]]
    assert np.asarray(cells.text).tolist() == [[3, 1], [0, 0]]


def test_labels_cannot_bring_markup_into_the_figure() -> None:
    html = charts.to_html(charts.confusion_heatmap(["</script><a href='x'>", "b"], np.eye(2, dtype=int)), "f")
    assert html.count("</script>") == 1
    assert "<a " not in html
    assert "\\u003ca" not in html
