"""The figures of a sweep's report: plain lines and points, readable on phones, dark pages and paper."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import plotly.graph_objects as go

from kamerton.decide.report.interval_charts import COLOURS, OPEN
from kamerton.report.charts import BLUE, ORANGE, shortened, styled
from kamerton.sweep.summary import Row

MAX_LINES = 200  # the last trials of a figure with a line for each
_STYLES = {
    "complete": {"color": BLUE, "symbol": "circle"},
    "pruned": {"color": OPEN, "symbol": "triangle-down"},
    "diverged": {"color": COLOURS["worse"], "symbol": "x"},
}
_HOVER = "%{hovertext}<extra></extra>"


def history(rows: Sequence[Row], title: str, *, maximize: bool) -> go.Figure | None:
    """Draw the value of every trial in order (the last report if pruned) and the best so far; None without any."""
    drawn = [row for row in rows if row.last is not None and math.isfinite(row.last)]
    if not drawn:
        return None
    figure = go.Figure()
    for name, style in _STYLES.items():
        own = [row for row in drawn if row.outcome == name]
        if own:
            figure.add_scatter(**_points(own, [row.number for row in own], [row.last for row in own], name, style))
    feasible = [row for row in drawn if row.values and row.feasible]
    numbers = [row.number for row in feasible]
    best = list(accumulate((row.values[0] for row in feasible), max if maximize else min))
    if feasible:
        numbers, best = [*numbers, drawn[-1].number], [*best, best[-1]]
    line = {"color": ORANGE, "width": 2, "shape": "hv"}
    figure.add_scatter(x=numbers, y=best, name="best so far", mode="lines", line=line, hoverinfo="skip")
    styled(figure, "History", "trial", title)
    return figure.update_xaxes(dtick=1) if len(rows) <= 10 else figure


def reports(rows: Sequence[Row], title: str) -> go.Figure | None:
    """Draw the validation curve of every trial; a line that stops early is a pruned trial. None without any."""
    shown = [row for row in rows if len(row.reports) > 0][-MAX_LINES:]
    if not any(len(row.reports) > 1 for row in shown):
        return None
    figure = go.Figure()
    for row in sorted(shown, key=lambda row: row.best):
        colour = ORANGE if row.best else BLUE if row.outcome == "complete" else OPEN
        steps = sorted(row.reports)
        figure.add_scatter(
            x=steps,
            y=[row.reports[step] for step in steps],
            mode="lines+markers",
            line={"color": colour, "width": 3 if row.best else 1.2},
            marker={"size": 5, "color": colour},
            opacity=1 if row.best else 0.55,
            hovertext=[_hover_text(row)] * len(steps),
            hovertemplate=_HOVER,
            showlegend=False,
        )
    styled(figure, "Validations", "validation", title)
    return figure.update_layout(margin={"t": 40}).update_xaxes(dtick=1 if len(steps) <= 20 else None)


def bars(shares: Mapping[str, float]) -> go.Figure | None:
    """Draw the importance of every parameter; None without any."""
    if not shares:
        return None
    names = [html.escape(shortened(name, 26)) for name in shares]
    text = [f"{share:.0%}" for share in shares.values()]
    figure = go.Figure(go.Bar(x=list(shares.values()), y=names, orientation="h", text=text, marker={"color": BLUE}))
    styled(figure, "Importance", "share", "", 100 + 34 * len(shares))
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    return figure.update_yaxes(autorange="reversed", showgrid=False, tickfont={"size": 11})


def slice_of(rows: Sequence[Row], key: str, title: str, *, log: bool) -> go.Figure | None:
    """Draw the value of every trial over one of its parameters; None if no trial has both."""
    drawn = [row for row in rows if key in row.params and row.last is not None and math.isfinite(row.last)]
    if not drawn:
        return None
    figure = go.Figure()
    numeric = all(_is_number(row.params[key]) for row in drawn)
    for name, style in _STYLES.items():
        own = [row for row in drawn if row.outcome == name]
        places = [row.params[key] if numeric else _text(row.params[key]) for row in own]
        if own:
            figure.add_scatter(**_points(own, places, [row.last for row in own], name, style))
    styled(figure, html.escape(key), "", title, 300)
    if numeric and log:
        return figure.update_xaxes(type="log", exponentformat="power", dtick=1)
    chosen = sorted({row.params[key] for row in drawn}) if numeric else []
    if numeric and 0 < len(chosen) <= 8:
        return figure.update_xaxes(tickvals=chosen)
    return figure if numeric else figure.update_xaxes(type="category")


def parallel(rows: Sequence[Row], keys: Sequence[str], title: str, logs: set[str]) -> go.Figure | None:
    """Draw every complete trial as a line over its parameters and its value, each axis from its minimum to its maximum.

    None for fewer than two axes or trials.
    """
    shown = [row for row in rows if row.values and all(key in row.params for key in keys)][-MAX_LINES:]
    if len(shown) < 2 or not keys:
        return None
    axes = [_axis([row.params[key] for row in shown], log=key in logs) for key in keys]
    axes.append(_axis([row.values[0] for row in shown], log=False))
    figure = go.Figure()
    for index in sorted(range(len(shown)), key=lambda index: shown[index].best):
        row = shown[index]
        figure.add_scatter(
            x=list(range(len(axes))),
            y=[places[index] for places, _, _ in axes],
            mode="lines",
            line={"color": ORANGE if row.best else BLUE, "width": 3 if row.best else 1.2},
            opacity=1 if row.best else 0.4,
            hovertext=_hover_text(row),
            hovertemplate=_HOVER,
            showlegend=False,
        )
    names = [*keys, title]
    ticks = [html.escape(shortened(name.rpartition(".")[2], 12)) for name in names]
    styled(figure, "Parallel coordinates", "", "", 380)
    for place, (_, low, high) in enumerate(axes):
        figure.add_shape(type="line", x0=place, x1=place, y0=0, y1=1, line={"color": OPEN, "width": 1})
        for text, y, anchor in ((low, 0, "top"), (high, 1, "bottom")):
            font = {"size": 11, "color": OPEN}
            text = html.escape(shortened(text, 11))
            figure.add_annotation(x=place, y=y, text=text, showarrow=False, yanchor=anchor, font=font)
    figure.update_layout(margin={"t": 40})
    figure.update_yaxes(range=[-0.12, 1.12], showgrid=False, showticklabels=False)
    return figure.update_xaxes(
        tickvals=list(range(len(names))), ticktext=ticks, showgrid=False, range=[-0.35, len(names) - 0.65]
    )


def pareto(rows: Sequence[Row], titles: Sequence[str]) -> go.Figure | None:
    """Draw two values of every complete trial, and the Pareto front; None with one value."""
    drawn = [row for row in rows if len(row.values) > 1]
    if not drawn:
        return None
    figure = go.Figure()
    front = sorted((row for row in drawn if row.best), key=lambda row: row.values)
    for own, name, colour in (([row for row in drawn if not row.best], "others", OPEN), (front, "front", ORANGE)):
        if own:
            style = {"color": colour, "symbol": "circle"}
            x, y = zip(*(row.values[:2] for row in own), strict=True)
            figure.add_scatter(**_points(own, x, y, name, style))
    if len(titles) == 2:
        line = {"color": ORANGE, "width": 1.5, "dash": "dot"}
        ends = {"x": [row.values[0] for row in front], "y": [row.values[1] for row in front]}
        figure.add_scatter(**ends, mode="lines", line=line, showlegend=False, hoverinfo="skip")
    return styled(figure, "Pareto front", titles[0], titles[1])


def _points(
    rows: Sequence[Row], x: Sequence[Any], y: Sequence[Any], name: str, style: Mapping[str, Any]
) -> dict[str, Any]:
    hover = {"hovertext": [_hover_text(row) for row in rows], "hovertemplate": _HOVER}
    return {"x": x, "y": y, "name": name, "mode": "markers", "marker": {"size": 8, **style}, **hover}


def _axis(values: Sequence[Any], *, log: bool) -> tuple[list[float], str, str]:
    """Return the positions of the values between 0 and 1, and the texts of both ends; words are sorted."""
    if not all(_is_number(value) for value in values):
        words = sorted({_text(value) for value in values})
        places = [words.index(_text(value)) / max(1, len(words) - 1) for value in values]
        return places, words[0], words[-1]
    low, high = min(values), max(values)
    scaled = [math.log(value) if log else float(value) for value in (*values, low, high)]
    width = (scaled[-1] - scaled[-2]) or 1.0
    return [(value - scaled[-2]) / width for value in scaled[:-2]], _text(low), _text(high)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _hover_text(row: Row) -> str:
    """Return the text shown when hovering over a trial."""
    params = [f"{key} {_text(value)}" for key, value in row.params.items()]
    values = [_text(value) for value in row.values or ([] if row.last is None else [row.last])]
    return "<br>".join(map(html.escape, [f"trial {row.number}, {row.outcome}", ", ".join(values), *params]))


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
