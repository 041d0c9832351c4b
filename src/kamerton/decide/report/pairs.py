"""The part of a run's report about preferences: margins, lengths, worst pairs, and what a bare model would reach.

Completions that are judged one by one (KTO) are shown alike, each with one side; their margin is the reward of a
desired completion, and the negative reward of any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kamerton.decide.compare.examples import SHOWN, rejections, shortened, targets
from kamerton.report import charts
from kamerton.score.judged import judged_counts
from kamerton.score.pairs import has_pairs, pair_counts
from kamerton.score.preferences import is_preference, rows_word
from kamerton.words import number

if TYPE_CHECKING:
    import plotly.graph_objects as go

BINS = 40
Row = dict[str, Any]
Floats = NDArray[np.float64]


def length_sentence(table: pa.Table) -> str | None:
    """Return a sentence on the accuracy of always preferring the longer (or the shorter) completion; None for others.

    A model that learnt nothing but the length reaches it.
    """
    if not has_pairs(table) or not table.num_rows:
        return None
    word, accuracy = _by_length(table)
    text = f"always preferring the {word} completion would reach preference accuracy"
    return f"For comparison: {text} {number(accuracy)}."


def _by_length(table: pa.Table) -> tuple[str, float]:
    chosen, rejected = pair_counts(table)[:, 7:9].T
    longer = float(np.mean(0.5 + 0.5 * np.sign(chosen - rejected)))
    return ("longer", longer) if longer >= 0.5 else ("shorter", 1 - longer)


def pair_cautions(table: pa.Table, rows: Mapping[str, Row], *, has_task: bool = False) -> list[str]:
    """Return caveats about a result on preferences; `rows` are those of `metric_tables.metric_table` by metric.

    `has_task` is whether the test set `score.data` was scored as well.
    """
    if not is_preference(table):
        return []
    texts = []
    accuracy = rows.get("preference_accuracy", {}).get("tuned")
    if accuracy is not None and has_pairs(table):
        word, other = _by_length(table)
        if accuracy <= other and other > 0.5:
            texts.append(f"The model is no better than always preferring the {word} completion.")
    change = rows.get("logprob_chosen", {}).get("change")
    if change is not None and change["high"] < 0 and rows["margin"]["verdict"] == "better":
        task = "" if has_task else "; score.data=FILE scores a test set of single completions as well"
        texts.append(
            f"The log-probability of the chosen completions fell too, by {number(-change['difference'])} nats each: a "
            f"larger margin is not a better model. To keep them likely, set objective.sft_weight=1 or train less{task}."
        )
    return texts


def pair_contents(table: pa.Table | None) -> dict[str, Any]:
    """Return the worst pairs and the results by length of a score table; {} if its rows are no preferences."""
    if table is None or not is_preference(table):
        return {}
    margins = pair_margins(table)
    worst = np.argsort(margins, kind="stable")[:SHOWN]
    worst = worst[margins[worst] < 0]
    return {
        "pairs": {
            "word": rows_word(table),
            "total": table.num_rows,
            "negative": int((margins < 0).sum()),
            "worst": _worst(table, worst, margins),
            "lengths": _lengths(table, margins) if has_pairs(table) else [],
        }
    }


def pair_margins(table: pa.Table) -> Floats:
    """Return the margin of each row, (rows,): reward of chosen less that of rejected, or as the module says."""
    if has_pairs(table):
        counts = pair_counts(table)
        return np.asarray(counts[:, 3] - counts[:, 4])
    counts = judged_counts(table)
    return np.asarray(counts[:, 2] - counts[:, 3])


def _worst(table: pa.Table, rows: NDArray[np.int64], margins: Floats) -> list[Row]:
    """Return rows with their prompt and each side: its name, text, reward, log-probability and number of tokens."""
    shown = table.take(pa.array(rows))
    listed = shown.to_pylist()
    if not has_pairs(table):
        return [
            {
                "example_id": row["example_id"],
                "prompt": shortened(row["prompt"]),
                "margin": float(margins[i]),
                "sides": [
                    {
                        "name": "desired" if row["desired"] else "not desired",
                        "text": shortened(text),
                        "reward": float(margins[i]) * (1 if row["desired"] else -1),
                        "logprob": -row["nll"],
                        "tokens": row["target_tokens"],
                    }
                ],
            }
            for i, row, text in zip(rows, listed, targets(shown), strict=True)
        ]
    return [
        {
            "example_id": row["example_id"],
            "prompt": shortened(row["prompt"]),
            "margin": float(margins[i]),
            "sides": [
                {
                    "name": name,
                    "text": shortened(text),
                    "reward": float(values[side]),
                    "logprob": float(values[2 + side]),
                    "tokens": int(values[4 + side]),
                }
                for side, (name, text) in enumerate((("chosen", chosen), ("rejected", rejected)))
            ],
        }
        for i, row, chosen, rejected, values in zip(
            rows, listed, targets(shown), rejections(shown), pair_counts(shown)[:, 3:], strict=True
        )
    ]


def _lengths(table: pa.Table, margins: Floats) -> list[Row]:
    """Return the results where the chosen completion is longer, as long, and shorter; without groups of no pair."""
    counts = pair_counts(table)
    longer = np.sign(counts[:, 7] - counts[:, 8])
    groups = (("longer than the rejected", 1), ("as long", 0), ("shorter", -1))
    return [
        {
            "group": name,
            "pairs": int(mask.sum()),
            "preference_accuracy": float(counts[mask, 1].mean()),
            "ranking_accuracy": float(counts[mask, 2].mean()),
            "margin": float(margins[mask].mean()),
            "length_chosen": float(counts[mask, 7].mean()),
            "length_rejected": float(counts[mask, 8].mean()),
        }
        for name, sign in groups
        if (mask := longer == sign).any()
    ]


def margin_histogram(table: pa.Table | None) -> go.Figure | None:
    """Return the histogram of the margins; None if the rows are no preferences."""
    import plotly.graph_objects as go

    if table is None or not is_preference(table) or not table.num_rows:
        return None
    margins = pair_margins(table)
    margins = margins[np.isfinite(margins)]
    reach = float(np.abs(margins).max(initial=0.0)) or 1.0
    width = (float(np.ptp(margins)) or reach) / min(BINS, max(5, 2 * round(len(margins) ** 0.5)))
    low = np.floor(margins.min(initial=0.0) / width) * width  # an edge at 0, so that no bar has both signs
    edges = low + width * np.arange(round((margins.max(initial=0.0) - low) / width) + 2)
    numbers, _ = np.histogram(margins, edges)
    centres = (edges[:-1] + edges[1:]) / 2
    kinds = ("rejected preferred", "chosen preferred") if has_pairs(table) else ("wrong side", "right side")
    figure = go.Figure()
    for name, mask, color in ((kinds[0], centres < 0, charts.ORANGE), (kinds[1], centres > 0, charts.BLUE)):
        if numbers[mask].any():
            hover = f"margin %{{x:.3f}} ± {width / 2:.3f}<br>%{{y}} {rows_word(table)}<extra></extra>"
            style = {"marker": {"color": color}, "hovertemplate": hover}
            figure.add_bar(x=centres[mask], y=numbers[mask], width=width, name=name, **style)
    charts.styled(figure, "Margins of the test split", "reward of chosen less rejected", rows_word(table), height=300)
    if not has_pairs(table):
        figure.layout.xaxis.title.text = "reward, negative if the completion is not desired"
    figure.layout.bargap = 0.05
    return figure


def reward_curves(curves: charts.Curves) -> go.Figure | None:
    """Return a figure of the rewards of both sides over optimizer steps; None if they were not logged."""
    import plotly.graph_objects as go

    figure = go.Figure()
    sides = (("chosen", charts.BLUE), ("rejected", charts.ORANGE), ("desired", charts.BLUE))
    for side, color in (*sides, ("undesired", charts.ORANGE)):
        steps, values, _ = charts.thinned(*charts.series(curves, f"train/reward_{side}"))
        if values.size:
            values = charts.smoothed(values) if values.size > 2 else values
            mode = "lines" if values.size > 2 else "markers"
            figure.add_scatter(x=steps, y=values, name=side, mode=mode, line={"color": color, "width": 2.5})
        steps, values, _ = charts.thinned(*charts.series(curves, f"val/reward_{side}"))
        if values.size:
            style = {"line": {"color": color, "width": 1.5, "dash": "dot"}, "marker": {"size": 8, "symbol": "diamond"}}
            mode = "lines+markers" if values.size <= charts.MAX_MARKERS else "lines"
            figure.add_scatter(x=steps, y=values, name=f"{side}, validation", mode=mode, **style)
    if not figure.data:
        return None
    return charts.over_steps(charts.styled(figure, "Rewards", "optimizer step", "reward"))
