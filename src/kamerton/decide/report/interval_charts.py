"""Figures of values with intervals: differences between models, slices of the test set, folds."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kamerton.decide.report.folds import Spread
from kamerton.report.charts import BLUE, ORANGE, shortened, styled

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Contrast of at least 3:1 on the light and the dark page.
COLOURS = {"better": "#1f9254", "worse": "#d6453c"}
OPEN = "#7d838c"
MAX_NAME = 26


@dataclass(frozen=True, slots=True)
class Mark:
    """One row of a figure: a value with its interval, the verdict that sets its colour, and the hover text."""

    name: str
    value: float
    low: float | None
    high: float | None
    verdict: str
    note: str = ""


def differences(marks: Sequence[Mark], title: str, x: str) -> go.Figure | None:
    """Draw differences as points with intervals, one row each; None if there are none."""
    import plotly.graph_objects as go

    if not marks:
        return None
    figure = go.Figure()
    rows = list(range(len(marks)))  # names may repeat
    verdicts = dict.fromkeys(mark.verdict for mark in marks)
    for verdict in verdicts:
        positions = [row for row in rows if marks[row].verdict == verdict]
        chosen = [marks[row] for row in positions]
        colour = COLOURS.get(verdict, OPEN)
        figure.add_scatter(
            x=[mark.value for mark in chosen],
            y=positions,
            name=html.escape(verdict),
            mode="markers",
            marker={"size": 9, "color": colour},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [_beyond(mark.high, mark.value) for mark in chosen],
                "arrayminus": [_beyond(mark.value, mark.low) for mark in chosen],
                "color": colour,
                "thickness": 2,
                "width": 5,
            },
            hovertext=[html.escape(f"{mark.name}: {mark.note}") for mark in chosen],
            hoverinfo="text",
        )
    styled(figure, html.escape(title), x, "", 110 + 30 * len(marks))
    figure.add_vline(x=0, line={"color": OPEN, "width": 1, "dash": "dot"})
    names = [html.escape(shortened(mark.name, MAX_NAME)) for mark in marks]
    figure.update_yaxes(
        tickvals=rows, ticktext=names, tickfont={"size": 11}, range=[len(marks) - 0.4, -0.6], showgrid=False
    )
    figure.update_layout(showlegend=len(verdicts) > 1)
    return figure


def folds(spread: dict[str, Spread], names: dict[str, str]) -> go.Figure | None:
    """Draw the metrics in `names` (title by metric; at most two) of every fold as points, their means as lines.

    The band is the interval of the first metric's mean. None if no metric is available.
    """
    import plotly.graph_objects as go

    shown = [(title, spread[name]) for name, title in names.items() if name in spread]
    if not shown:
        return None
    figure, count = go.Figure(), len(shown[0][1]["values"])
    ends = [-0.4, count - 0.6]
    band = {"x": [*ends, *ends[::-1]], "y": [shown[0][1]["low"]] * 2 + [shown[0][1]["high"]] * 2}
    red, green, blue = (int(BLUE[at : at + 2], 16) for at in (1, 3, 5))
    faint = f"rgba({red},{green},{blue},0.13)"
    figure.add_scatter(**band, fill="toself", mode="none", fillcolor=faint, hoverinfo="skip", showlegend=False)
    for (title, metric), colour in zip(shown, (BLUE, ORANGE), strict=False):
        mean = {"x": ends, "y": [metric["mean"]] * 2, "mode": "lines", "line": {"color": colour, "width": 1.5}}
        figure.add_scatter(**mean, showlegend=False, hoverinfo="skip")
        points = {"x": list(range(count)), "y": metric["values"], "mode": "markers", "name": title}
        figure.add_scatter(**points, marker={"size": 10, "color": colour}, hovertemplate="fold %{x}: %{y:.4f}")
    styled(figure, " and ".join(title for title, _ in shown), "fold", "", 320)
    figure.update_xaxes(tickvals=list(range(count)), range=[-0.5, count - 0.5], showgrid=False)
    figure.update_layout(showlegend=len(shown) > 1)
    return figure


def _beyond(high: float | None, low: float | None) -> float:
    return 0.0 if high is None or low is None else float(np.maximum(high - low, 0.0))
