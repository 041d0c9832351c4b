"""The figures of a report: curves and the confusion matrix, as plotly figures that fit light and dark pages."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Both hues keep a contrast of at least 3:1 on the white and on the near-black page, and differ for the colour-blind.
BLUE, ORANGE = "#3577d4", "#d9730d"
MOST_COUNTS = 20  # labels up to which the cells of the confusion matrix carry their counts
CONFIG = {"responsive": True, "displaylogo": False, "displayModeBar": False}

Curves = list[dict[str, float]]


def loss_curves(curves: Curves) -> go.Figure | None:
    """Training loss (faint, and smoothed) and validation loss over optimizer steps; None without any."""
    import plotly.graph_objects as go

    figure = go.Figure()
    steps, losses = _series(curves, "train/loss")
    if len(losses) > 2:
        figure.add_scatter(x=steps, y=losses, name="train, each step", line={"color": BLUE, "width": 1}, opacity=0.35)
        smooth = smoothed(losses)
        figure.add_scatter(x=steps, y=smooth, name="train, smoothed", line={"color": BLUE, "width": 2.5})
    elif losses.size:
        figure.add_scatter(x=steps, y=losses, name="train", mode="markers", marker={"color": BLUE})
    steps, losses = _series(curves, "val/loss")
    if losses.size:
        style = {"mode": "lines+markers", "line": {"color": ORANGE, "width": 2.5}, "marker": {"size": 8, "symbol": "diamond"}}
        figure.add_scatter(x=steps, y=losses, name="validation", **style)
    return _styled(figure, "Loss", "optimizer step", "nats per target token") if figure.data else None


def learning_rate_curve(curves: Curves) -> go.Figure | None:
    """The learning rate over optimizer steps; None when it was not logged."""
    import plotly.graph_objects as go

    steps, rates = _series(curves, "lr")
    if not rates.size:
        return None
    figure = go.Figure(go.Scatter(x=steps, y=rates, line={"color": BLUE, "width": 2.5}, mode="lines+markers" if len(rates) < 3 else "lines"))
    figure.update_yaxes(exponentformat="e", rangemode="tozero")
    return _styled(figure, "Learning rate", "optimizer step", "", height=240)


def confusion_heatmap(labels: list[str], matrix: NDArray[np.int64]) -> go.Figure:
    """Counts of true (rows) by predicted label (columns); colour is the share of the row."""
    import plotly.graph_objects as go

    names = [html.escape(label) for label in labels]  # plotly renders a little HTML in texts
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = go.Figure(
        go.Heatmap(
            z=share,
            x=names,
            y=names,
            customdata=matrix,
            zmin=0,
            zmax=1,
            colorscale=[[0, "rgba(53,119,212,0)"], [1, "rgba(53,119,212,0.85)"]],
            showscale=False,
            xgap=1,
            ygap=1,
            texttemplate="%{customdata}" if len(labels) <= MOST_COUNTS else None,
            hovertemplate="true %{y}<br>predicted %{x}<br>%{customdata} examples, %{z:.0%} of the row<extra></extra>",
        )
    )
    figure.update_xaxes(type="category", side="bottom", constrain="domain")
    figure.update_yaxes(type="category", autorange="reversed")
    height = int(min(1100, max(320, 130 + 44 * len(labels))))
    return _styled(figure, "Confusion matrix", "predicted", "true", height=height)


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exponential moving average over about a twentieth of the run, without a bias towards zero at the start.

    Source of the correction: Kingma and Ba, Adam, 2015, section 3. Values that are not finite are passed over.
    """
    keep = 1 - 1 / max(5.0, len(values) / 20)
    total = weight = 0.0
    result = np.empty_like(values)
    for i, value in enumerate(values):
        if np.isfinite(value):
            total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        result[i] = total / weight if weight else np.nan
    return result


def to_html(figure: go.Figure, name: str) -> str:
    """The figure as a `<div>` with its script, without plotly.js; `name` is its id in the page."""
    import plotly.io

    return str(plotly.io.to_html(figure, config=CONFIG, full_html=False, include_plotlyjs=False, div_id=name))


def _series(curves: Curves, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps and values of the rows that hold `name`."""
    points = [(row.get("step", float(i)), row[name]) for i, row in enumerate(curves) if name in row]
    steps, values = np.array(points, np.float64).reshape(-1, 2).T
    return steps, values


def _styled(figure: go.Figure, title: str, x: str, y: str, height: int = 360) -> go.Figure:
    axis: dict[str, Any] = {"zeroline": False, "automargin": True, "gridcolor": "rgba(128,128,128,0.25)"}
    figure.update_layout(
        template="none",
        title={"text": title, "x": 0, "xref": "paper", "font": {"size": 16}},
        height=height,
        margin={"l": 10, "r": 10, "t": 48, "b": 10},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        hovermode="closest",
    )
    figure.update_xaxes(title=x, **axis)
    figure.update_yaxes(title=y, **axis)
    return figure
