"""The report of a comparison: verdicts first, then differences, gate, slices, confusions and examples.

comparison.json ──▶ Comparison ──▶ contents (plain values) ──▶ report.html, report.md, report.json
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kamerton import words
from kamerton.decide.compare import comparison as compare
from kamerton.decide.compare.comparison import Comparison, Slice
from kamerton.decide.compare.words import verdict_word
from kamerton.decide.report import interval_charts
from kamerton.decide.report.interval_charts import Mark
from kamerton.mask import masked
from kamerton.report.charts import shortened
from kamerton.report.pages import moment, write_pages

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_SLICES = 40  # rows of a slice figure
FIRST = ("accuracy", "f1", "exact_match", "loss")  # the metrics worth a figure, most telling first
MOST_FIGURES = 2
LONGEST_TITLE = 30


def write_comparison(folder: Path) -> Path:
    """Write report.html, report.md and report.json beside the comparison.json in `folder`; the path of the first."""
    comparison = compare.read(folder)
    return write_pages(folder, "kamerton.decide", "comparison", contents(comparison), figures(comparison))


def contents(comparison: Comparison) -> dict[str, Any]:
    """Everything the templates show, as plain values without secrets."""
    values: dict[str, Any] = masked(asdict(comparison), prose=True)
    for one in values["differences"]:
        one["word"] = verdict_word(one["verdict"], one["difference"], one["low"], one["high"])
    for one in values["slices"]:
        low, high = one["difference_low"], one["difference_high"]
        one["word"] = verdict_word(one["verdict"], one["difference"], low, high)
    headline, tone = _headline(comparison)
    return {
        "title": comparison.name,
        "state": None,
        "headline": headline,
        "tone": tone,
        "key_facts": _key_facts(comparison),
        "comparison": values,
        "metrics": _metrics(comparison),
        "main_metric": main_metric(comparison),
        "gate_passed": None if comparison.gate is None else comparison.gate.passed,
        "most_slices": MOST_SLICES,
        "has_seeds": any(len(side.runs) > 1 for side in comparison.sides),
        "confusions": _confusions(values["confusions"]),
        "changed": [_browsed(one) for one in values["changed"]],
    }


def main_metric(comparison: Comparison) -> str | None:
    """The metric that the verdict is about."""
    known = [difference.metric for difference in comparison.differences]
    return next((name for name in FIRST if name in known), known[0] if known else None)


def figures(comparison: Comparison) -> dict[str, go.Figure | None]:
    """Differences of the most telling metrics, and slices of each candidate in the first of them."""
    known = [name for name in FIRST if any(one.metric == name for one in comparison.differences)]
    drawn: dict[str, go.Figure | None] = {
        f"difference-{name}": _difference_figure(comparison, name) for name in known[:MOST_FIGURES]
    }
    for number, side in enumerate(comparison.candidates):
        drawn[f"slices-{number}"] = _slice_figure(comparison, side.name)
    return drawn


def _difference_figure(comparison: Comparison, metric: str) -> go.Figure | None:
    marks = [
        Mark(one.candidate, one.difference, one.low, one.high, one.verdict, _said(one.difference, one.low, one.high))
        for one in comparison.differences
        if one.metric == metric and one.difference is not None
    ]
    title = f"{words.TITLES.get(metric, metric)} against {shortened(comparison.baseline.name, LONGEST_TITLE)}"
    lower = any(one.lower_is_better for one in comparison.differences if one.metric == metric)
    return interval_charts.differences(marks, title, "difference (lower is better)" if lower else "difference")


def _slice_figure(comparison: Comparison, candidate: str) -> go.Figure | None:
    slices = [one for one in comparison.slices if one.candidate == candidate and one.difference is not None]
    if not slices:
        return None
    metric = main_metric(comparison)
    metric = metric if any(one.metric == metric for one in slices) else slices[0].metric
    marks = [
        Mark(
            f"{one.field.replace('_', ' ')} = {one.group} ({one.examples:,})",
            float(one.difference or 0.0),
            one.difference_low,
            one.difference_high,
            one.verdict,
            _said(one.difference, one.difference_low, one.difference_high),
        )
        for one in _telling([one for one in slices if one.metric == metric])
    ]
    title = f"{words.TITLES.get(metric or '', metric)}: {shortened(candidate, LONGEST_TITLE)}"
    return interval_charts.differences(marks, title, "difference")


def _telling(slices: list[Slice]) -> list[Slice]:
    """The slices that are shown, in their order: those that are worse or better first, then the largest differences."""
    rank = {"worse": 0, "better": 1}
    order = sorted(slices, key=lambda one: (rank.get(one.verdict, 2), -abs(one.difference or 0.0)))
    shown = {id(one) for one in order[:MOST_SLICES]}
    return [one for one in slices if id(one) in shown]


def _said(difference: float | None, low: float | None, high: float | None) -> str:
    bounds = "" if low is None or high is None else words.bounds_text((low, high))
    return "–" if difference is None else words.signed(difference) + bounds


def _headline(comparison: Comparison) -> tuple[str, str]:
    """The verdict of the first candidate, or how many are better; and the tone: good, bad or open."""
    if comparison.gate is not None and not comparison.gate.passed:
        return "The regression gate failed.", "bad"
    said = list(comparison.verdicts.values())
    metric = main_metric(comparison)
    counts = Counter(one.verdict for one in comparison.differences if one.metric == metric)
    tone = "good" if counts["better"] and not counts["worse"] else "bad" if counts["worse"] else "open"
    if len(said) == 1:
        return said[0], tone
    words = ", ".join(f"{count} {word}" for word, count in counts.items()) or "no difference was computed"
    return f"{len(comparison.candidates)} candidates against {comparison.baseline.name}: {words}.", tone


def _key_facts(comparison: Comparison) -> list[tuple[str, str]]:
    facts = {
        "baseline": comparison.baseline.name,
        "candidates": f"{len(comparison.candidates):,}",
        "examples": f"{comparison.examples:,}",
        "split": comparison.split,
        "gate": None if comparison.gate is None else "passed" if comparison.gate.passed else "failed",
        "made": moment(comparison.created) if comparison.created else None,
    }
    return [(name, value) for name, value in facts.items() if value]


def _metrics(comparison: Comparison) -> list[str]:
    """Every metric of any side, those with a title first and in their order."""
    found = list(dict.fromkeys(name for side in comparison.sides for name in side.metrics))
    known = [name for name in words.TITLES if name in found]
    return [*known, *(name for name in found if name not in known)]


def _confusions(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [pair | {"change": pair["count"] - pair["baseline_count"]} for pair in pairs]


def _browsed(changed: dict[str, Any]) -> dict[str, Any]:
    """The examples of one candidate as one list to look through, each with what happened to it."""
    known = {"broken": False, "fixed": True}
    rows = [row | {"right": right, "change": what} for what, right in known.items() for row in changed[what]]
    seen = {row["example_id"] for row in rows}
    moved = [row for row in changed["moved"] if row["example_id"] not in seen]
    rows += [row | {"right": row["answer"] == row["target"], "change": "moved"} for row in moved]
    return {key: changed[key] for key in ("candidate", "fixed_count", "broken_count")} | {"rows": rows}
