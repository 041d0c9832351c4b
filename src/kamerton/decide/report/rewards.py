"""The parts of a run's report about training on rewards: curves over the steps, and the rewards of the test split."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kamerton.decide.compare.examples import SHOWN, shortened, targets
from kamerton.decide.report.interval_charts import OPEN
from kamerton.errors import UserError
from kamerton.report import charts
from kamerton.score.columns import REWARD_COLUMN, has_reward
from kamerton.score.intervals import joined
from kamerton.words import number

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Contrast of at least 3:1 on the light and the dark page.
COLOURS = (charts.BLUE, charts.ORANGE, "#1f9254", "#9a5fd0", "#d6453c", "#0f8f9c", "#a67c1a", OPEN)
# Logged beside the rewards: metric, title of its figure, unit; shares are between 0 and 1.
SHARE = "share"
DETAILS = (
    ("reward_spread", "Spread within a group", "standard deviation"),
    ("no_signal", "Groups without signal", SHARE),
    ("length", "Length of completions", "tokens"),
    ("truncated", "Truncated completions", SHARE),
    ("entropy", "Entropy", "nats per token"),
    ("kl", "Divergence from the model before training", "nats per token"),
    ("clipped", "Clipped tokens", SHARE),
)
MOST_STEPS = 20  # in a mean of the first and of the last steps
MAX_BARS = 12  # more different rewards are put into bins
BINS = 24

Row = dict[str, Any]
Floats = NDArray[np.float64]


def learns_rewards(curves: charts.Curves) -> bool:
    """Return whether the logged values are those of training on rewards."""
    return "train/reward" in charts.logged(curves)


def component_names(curves: charts.Curves) -> list[str]:
    """Return the names of the rewards that were logged by themselves; none if there is only one."""
    names = [name.removeprefix("train/reward_") for name in charts.logged(curves) if name.startswith("train/reward_")]
    return [name for name in names if name != "spread"]


def training_rows(curves: charts.Curves) -> list[Row]:
    """Return what training on rewards logged: `{name, first, last, steps}`, means over the first and the last `steps`.

    Those are a tenth of the run each, at most `MOST_STEPS`. Empty for other runs.
    """
    if not learns_rewards(curves):
        return []
    parts = [f"reward_{name}" for name in component_names(curves)]
    rows = []
    for name in ("reward", *parts, *(name for name, _, _ in DETAILS)):
        _, values = charts.series(curves, f"train/{name}")
        values = values[np.isfinite(values)]
        if values.size:
            steps = max(1, min(MOST_STEPS, len(values) // 10))
            first, last = float(values[:steps].mean()), float(values[-steps:].mean())
            rows.append({"name": name, "first": first, "last": last, "steps": steps})
    return rows


def reward_figures(curves: charts.Curves) -> dict[str, go.Figure | None]:
    """Return the figures over steps by name: `reward`, `components`, and `detail-NAME`; {} for other runs."""
    if not learns_rewards(curves):
        return {}
    names = component_names(curves)
    parts = [(f"reward_{name}", name, COLOURS[at % len(COLOURS)]) for at, name in enumerate(names)]
    figures = {
        "reward": _over_steps(curves, "Reward", "", [("reward", "train", charts.BLUE)], height=320),
        "components": _over_steps(curves, "Rewards by name", "", parts, height=320) if len(parts) > 1 else None,
    }
    for metric, title, unit in DETAILS:
        figures[f"detail-{metric}"] = _over_steps(curves, title, unit, [(metric, title, charts.BLUE)], height=220)
    return figures


def _over_steps(
    curves: charts.Curves, title: str, unit: str, lines: Sequence[tuple[str, str, str]], *, height: int
) -> go.Figure | None:
    """Draw metrics (metric, name, colour) smoothed; a single one also as it was logged, and by validations."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for metric, name, colour in lines:
        name = html.escape(name)  # plotly renders a little HTML in texts
        steps, values, _ = charts.thinned(*charts.series(curves, f"train/{metric}"))
        if values.size > 2:
            if len(lines) == 1:
                faint = {"mode": "lines", "opacity": 0.45, "line": {"color": colour, "width": 1.2}}
                figure.add_scatter(x=steps, y=values, name=f"{name}, as logged", showlegend=False, **faint)
            smooth = {"mode": "lines", "line": {"color": colour, "width": 2.5}}
            figure.add_scatter(x=steps, y=charts.smoothed(values), name=name, **smooth)
        elif values.size:
            figure.add_scatter(x=steps, y=values, name=name, mode="markers", marker={"color": colour, "size": 8})
        steps, values, _ = charts.thinned(*charts.series(curves, f"val/{metric}"))
        if values.size:
            colour = charts.ORANGE if len(lines) == 1 else colour
            style = {"line": {"color": colour, "width": 1.5, "dash": "dot"}, "marker": {"size": 8, "symbol": "diamond"}}
            mode = "lines+markers" if values.size <= charts.MAX_MARKERS else "lines"
            name = "validation" if len(lines) == 1 else f"{name}, validation"
            figure.add_scatter(x=steps, y=values, name=name, mode=mode, showlegend=len(lines) == 1, **style)
    if not figure.data:
        return None
    is_detail = height < 300
    charts.styled(figure, title, "optimizer step", unit, height)
    if is_detail:
        figure.layout.showlegend, figure.layout.margin.t = False, 36
        figure.layout.title.font.size = 14
    if len(lines) > 1:  # below, where the entries have room on a phone
        figure.layout.legend = {"orientation": "h", "y": -0.3, "yanchor": "top", "x": 0, "xanchor": "left"}
        figure.layout.margin.t, figure.layout.height = 40, height + 20 * len(lines)
    if unit == SHARE:
        figure.layout.yaxis.range = [-0.04, 1.04]
    return charts.over_steps(figure)


def reward_histogram(tuned: pa.Table | None, base: pa.Table | None) -> go.Figure | None:
    """Return the histogram of the rewards of the test split, of both models; None if there are none."""
    import plotly.graph_objects as go

    values = {
        name: found
        for name, table in (("base", base), ("tuned", tuned))
        if table is not None and has_reward(table) and (found := _finite(table)).size
    }
    if "tuned" not in values:
        return None
    figure = go.Figure()
    distinct = np.unique(np.concatenate(list(values.values())))
    edges = np.histogram_bin_edges(distinct, BINS)
    for name, rewards in values.items():
        style = {"name": name, "marker": {"color": charts.BLUE if name == "tuned" else OPEN}}
        if len(distinct) <= MAX_BARS:
            counts = [int((rewards == value).sum()) for value in distinct]
            hover = "reward %{x}: %{y} answers<extra></extra>"
            figure.add_bar(x=[number(value) for value in distinct], y=counts, hovertemplate=hover, **style)
        else:
            counts = np.histogram(rewards, edges)[0].tolist()
            hover = f"reward %{{x:.3f}} ± {(edges[1] - edges[0]) / 2:.3f}: %{{y}} answers<extra></extra>"
            figure.add_bar(x=(edges[:-1] + edges[1:]) / 2, y=counts, hovertemplate=hover, **style)
    charts.styled(figure, "Rewards of the test split", "reward of an answer", "answers", height=300)
    if len(distinct) <= MAX_BARS:
        figure.layout.xaxis.type = "category"
    figure.layout.bargap = 0.25 if len(distinct) <= MAX_BARS else 0.1
    return figure


def reward_contents(tuned: pa.Table | None, base: pa.Table | None) -> dict[str, Any]:
    """Return the worst answers of the test split, and how many changed their reward; {} if they have none."""
    if tuned is None or not has_reward(tuned) or not tuned.num_rows:
        return {}
    before = None
    if base is not None and has_reward(base):
        try:
            base, tuned = joined(base, tuned)
            before = _rewards(base)
        except UserError:  # other examples
            before = None
    rewards = _rewards(tuned)
    change = np.zeros(len(rewards)) if before is None else rewards - before
    order = np.lexsort((change, rewards))  # of equal rewards, the one that fell most comes first
    values: dict[str, Any] = {
        "total": tuned.num_rows,
        "same": float(rewards[0]) if (rewards == rewards[0]).all() else None,
        "worst": _answers(tuned, base if before is not None else None, order[:SHOWN]),
    }
    if before is not None:
        fallen = np.argsort(change, kind="stable")
        fallen = fallen[change[fallen] < 0]
        values |= {
            "higher": int((change > 0).sum()),
            "lower": len(fallen),
            "fallen": _answers(tuned, base, fallen[:SHOWN]),
        }
    return {"rewards": values}


def _answers(table: pa.Table, base: pa.Table | None, rows: NDArray[np.int64]) -> list[Row]:
    """Return rows with prompt, reference, and the answers of both models: text, reward, and each reward by name."""
    shown = table.take(pa.array(rows))
    models = {"tuned": shown} if base is None else {"base model": base.take(pa.array(rows)), "tuned": shown}
    listed = {name: _graded(part) for name, part in models.items()}
    references = targets(shown)
    return [
        {
            "example_id": row["example_id"],
            "prompt": shortened(row["prompt"]),
            "target": shortened(references[at]),
            "answers": {name: graded[at] for name, graded in listed.items()},
        }
        for at, row in enumerate(shown.to_pylist())
    ]


def _graded(table: pa.Table) -> list[Row]:
    """Return the answer of each row with its reward, and its rewards by name if there are several."""
    prefix = f"{REWARD_COLUMN}_"
    parts = [name for name in table.column_names if name.startswith(prefix)]
    return [
        {
            "text": shortened(row["prediction"]),
            "reward": row[REWARD_COLUMN],
            "parts": {name.removeprefix(prefix): row[name] for name in parts},
            "truncated": row["finish_reason"] == "length",
        }
        for row in table.to_pylist()
    ]


def _rewards(table: pa.Table) -> Floats:
    return np.asarray(table[REWARD_COLUMN].to_numpy(), np.float64)


def _finite(table: pa.Table) -> Floats:
    rewards = _rewards(table)
    found: Floats = rewards[np.isfinite(rewards)]
    return found
