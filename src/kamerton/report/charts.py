"""Figures of a report: curves and confusion matrix, as plotly figures for light and dark pages."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kamerton import words
from kamerton.monitor.table import Rows

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Contrast of at least 3:1 on the white and the near-black page; also distinguishable for colour-blind readers.
BLUE, ORANGE = "#3577d4", "#d9730d"
CONFIG = {"responsive": True, "displaylogo": False, "displayModeBar": False}
MAX_MARKERS = 60
MAX_COUNTS = 20  # with more labels, the cells of the confusion matrix have no counts
MAX_POINTS = 2000  # of a curve; more steps are averaged, so that a long run's report stays small
MAX_TICK = 16

Curves = list[dict[str, float]] | Rows


def loss_curves(curves: Curves) -> go.Figure | None:
    """Return a figure of training (raw, smoothed) and validation loss over optimizer steps; None without data."""
    import plotly.graph_objects as go

    figure = go.Figure()
    names = logged(curves)
    of_rewards = "train/reward" in names  # their loss is about 0 by construction
    steps, losses, together = thinned(*series(curves, "train/loss"))
    if of_rewards:
        losses = losses[:0]
    if losses.size:
        name = "train" if together == 1 else f"train, means of {together} rows"
        faint = {"mode": "lines" if losses.size > 2 else "markers", "opacity": 0.45}
        figure.add_scatter(x=steps, y=losses, name=name, line={"color": BLUE, "width": 1.2}, **faint)
    if losses.size > 2:
        line = {"color": BLUE, "width": 2.5}
        figure.add_scatter(x=steps, y=smoothed(losses), name="train, smoothed", mode="lines", line=line)
    steps, losses, _ = thinned(*series(curves, "val/loss"))
    if losses.size:
        mode = "lines+markers" if losses.size <= MAX_MARKERS else "lines"
        style = {"line": {"color": ORANGE, "width": 2.5}, "marker": {"size": 8, "symbol": "diamond"}}
        figure.add_scatter(x=steps, y=losses, name="validation", mode=mode, **style)
    if not figure.data:
        return None
    title = "Validation loss of the references" if of_rewards else "Loss"
    unit = "" if "train/margin" in names else "nats per target token"
    return over_steps(styled(figure, title, "optimizer step", unit, 240 if of_rewards else 360))


def score_curves(curves: Curves) -> go.Figure | None:
    """Return a figure of accuracy and F1, or exact match and ROUGE-L, of validations; None if they were not scored."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, color in (("accuracy", BLUE), ("f1", ORANGE), ("exact_match", BLUE), ("rougeL", ORANGE)):
        steps, values, _ = thinned(*series(curves, f"val/{name}"))
        if values.size:
            mode = "lines+markers" if values.size <= MAX_MARKERS else "lines"
            figure.add_scatter(
                x=steps, y=values, name=words.title(name), mode=mode, line={"color": color, "width": 2.5}
            )
    if not figure.data:
        return None
    return over_steps(styled(figure, "Validation scores", "optimizer step", "", height=240))


def learning_rate_curve(curves: Curves) -> go.Figure | None:
    """Return a figure of the learning rate over optimizer steps; None if it was not logged."""
    import plotly.graph_objects as go

    steps, rates, _ = thinned(*series(curves, "lr"))
    if not rates.size:
        return None
    mode = "lines" if rates.size > 2 else "lines+markers"
    figure = go.Figure(go.Scatter(x=steps, y=rates, mode=mode, line={"color": BLUE, "width": 2.5}))
    styled(figure, "Learning rate", "optimizer step", "", height=240)
    figure.layout.yaxis.exponentformat, figure.layout.yaxis.rangemode = "e", "tozero"
    return over_steps(figure)


def confusion_heatmap(labels: list[str], matrix: NDArray[np.int64]) -> go.Figure:
    """Return a heat map of counts by true (rows) and predicted label (columns); the colour is the share of the row."""
    import plotly.graph_objects as go

    names = [html.escape(label) for label in labels]  # plotly renders a little HTML in texts
    ticks = [html.escape(shortened(label)) for label in labels]
    hover = "true %{y}<br>predicted %{x}<br>%{text} examples, %{z:.0%} of the row<extra></extra>"
    figure = go.Figure(
        go.Heatmap(
            z=matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1),
            x=names,
            y=names,
            text=matrix,
            texttemplate="%{text}" if len(labels) <= MAX_COUNTS else None,
            hovertemplate=hover,
            zmin=0,
            zmax=1,
            colorscale=[[0, "rgba(53,119,212,0.03)"], [1, "rgba(53,119,212,0.9)"]],
            showscale=False,
            xgap=1,
            ygap=1,
        )
    )
    few = len(labels) <= MAX_COUNTS
    styled(figure, "Confusion matrix", "predicted", "true", 150 + (44 if few else 13) * min(len(labels), 100))
    axis = {"type": "category", "showgrid": False, "tickvals": names, "ticktext": ticks}
    figure.update_xaxes(showticklabels=few, **axis)  # many labels: the columns are in the order of the rows
    figure.update_yaxes(autorange="reversed", tickfont={"size": 13 if few else 9}, **axis)
    return figure


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a Gaussian moving average with a standard deviation of a fiftieth of the run.

    Centred, so it does not lag behind; normalised at the ends. Non-finite values are ignored.
    """
    width = max(1.0, len(values) / 50)
    offsets = np.arange(-round(3 * width), round(3 * width) + 1)
    weights = np.exp(-0.5 * (offsets / width) ** 2)
    is_finite = np.isfinite(values)
    start, stop = len(offsets) // 2, len(offsets) // 2 + len(values)
    total = np.convolve(np.where(is_finite, values, 0.0), weights)[start:stop]
    with np.errstate(invalid="ignore"):
        return np.asarray(total / np.convolve(is_finite, weights)[start:stop])


def thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return at most `MAX_POINTS` points, each a mean of neighbours, and how many neighbours that is."""
    together = -(-len(x) // MAX_POINTS) or 1
    starts = np.arange(0, len(x), together)
    if together == 1:
        return x, y, 1
    counts = np.diff([*starts, len(x)])
    return np.add.reduceat(x, starts) / counts, np.add.reduceat(y, starts) / counts, together


def to_html(figure: go.Figure, name: str) -> str:
    """Return the figure as a `<div>` with its script, without plotly.js; `name` is its id in the page."""
    import plotly.io

    return str(plotly.io.to_html(figure, config=CONFIG, full_html=False, include_plotlyjs=False, div_id=name))


def logged(curves: Curves) -> list[str]:
    """Return the names of all logged values."""
    return sorted(curves.logged() if isinstance(curves, Rows) else {name for row in curves for name in row})


def series(curves: Curves, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return steps and values of the rows that have `name`, `[points]` each."""
    if isinstance(curves, Rows):
        return curves.series(name)
    points = [(row.get("step", float(i)), row[name]) for i, row in enumerate(curves) if name in row]
    steps, values = np.array(points, np.float64).reshape(-1, 2).T
    return steps, values


def over_steps(figure: go.Figure) -> go.Figure:
    """Label only whole steps on the axis, also for very short runs."""
    last = max(np.max(trace.x) for trace in figure.data)
    if last <= 10:
        figure.layout.xaxis.dtick = 1
    return figure


def shortened(text: str, longest: int = MAX_TICK) -> str:
    """Return `text` truncated to `longest` characters, with an ellipsis."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def styled(figure: go.Figure, title: str, x: str, y: str, height: int = 360) -> go.Figure:
    """Apply the common layout: transparent, sized by the page, text colours from the page's style sheet."""
    axis: dict[str, Any] = {"zeroline": False, "automargin": True, "gridcolor": "rgba(128,128,128,0.25)"}
    figure.layout = {  # several times faster than update_layout
        "template": "none",
        "title": {
            "text": title,
            "x": 0,
            "xref": "container",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 4},
            "font": {"size": 16},
        },
        "height": height,
        "margin": {"l": 10, "r": 10, "t": 64 if len(figure.data) > 1 else 40, "b": 10},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        "hovermode": "closest",
        "xaxis": {"title": {"text": x}, **axis},
        "yaxis": {"title": {"text": y, "standoff": 12}, **axis},
    }
    return figure
