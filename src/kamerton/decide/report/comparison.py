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
from kamerton.decide.compare.comparison import Comparison
from kamerton.decide.compare.words import MAIN_METRICS, main_difference, metric_title, rows_of, verdict_word
from kamerton.decide.report import interval_charts
from kamerton.decide.report.interval_charts import Mark
from kamerton.mask import masked
from kamerton.report.charts import shortened
from kamerton.report.pages import moment, write_pages

if TYPE_CHECKING:
    import plotly.graph_objects as go

MAX_SLICES = 40  # rows of a slice figure
MAX_FIGURES = 2
MAX_TITLE = 30


def write_comparison(folder: Path) -> Path:
    """Write report.html, report.md and report.json beside the comparison.json in `folder`; return the first path."""
    comparison = compare.read(folder)
    return write_pages(folder, "kamerton.decide", "comparison", contents(comparison), figures(comparison))


def contents(comparison: Comparison) -> dict[str, Any]:
    """Return everything the templates show, as plain values without secrets."""
    values: dict[str, Any] = masked(asdict(comparison), prose=True)
    metrics = list(dict.fromkeys(name for side in comparison.sides for name in side.metrics))
    shown = {name: metric_title(name, comparison.baseline) for name in metrics}
    titles = {name: words.TITLES.get(title, title) for name, title in shown.items()}
    for row in values["differences"]:
        row["word"] = verdict_word(row["verdict"], row["difference"], row["low"], row["high"])
        row["title"] = titles.get(row["metric"], row["metric"])
    for row in values["slices"]:
        row["word"] = verdict_word(row["verdict"], row["difference"], row["difference_low"], row["difference_high"])
    confusions = [pair | {"change": pair["count"] - pair["baseline_count"]} for pair in values["confusions"]]
    titled = [name for name in words.TITLES if name in metrics]
    headline, tone = _headline(comparison)
    return {
        "title": comparison.name,
        "state": None,
        "headline": headline,
        "tone": tone,
        "key_facts": _key_facts(comparison),
        "comparison": values,
        "metrics": [*titled, *(name for name in metrics if name not in titled)],
        "titles": titles,
        "rows_word": rows_of(comparison.baseline),
        "main_metric": main_metric(comparison),
        "gate_passed": None if comparison.gate is None else comparison.gate.passed,
        "most_slices": MAX_SLICES,
        "has_seeds": any(len(side.runs) > 1 for side in comparison.sides),
        "confusions": confusions,
        "changed": [_browsed(changed) for changed in values["changed"]],
    }


def main_metric(comparison: Comparison) -> str | None:
    """Return the metric that the verdicts are about."""
    main = main_difference(comparison.differences) or next(iter(comparison.differences), None)
    return None if main is None else main.metric


def figures(comparison: Comparison) -> dict[str, go.Figure | None]:
    """Return figures of the main metrics' differences, and of each candidate's slices in the first of them."""
    available = {difference.metric for difference in comparison.differences}
    names = dict.fromkeys([main_metric(comparison), *MAIN_METRICS])
    shown = [name for name in names if name is not None and name in available][:MAX_FIGURES]
    drawn = {f"difference-{name}": _difference_figure(comparison, name) for name in shown}
    for number, candidate in enumerate(comparison.candidates):
        drawn[f"slices-{number}"] = _slice_figure(comparison, candidate.name)
    return drawn


def _difference_figure(comparison: Comparison, metric: str) -> go.Figure | None:
    differences = [each for each in comparison.differences if each.metric == metric]
    marks = [
        Mark(
            each.candidate,
            each.difference,
            each.low,
            each.high,
            each.verdict,
            _hover(each.difference, each.low, each.high),
        )
        for each in differences
        if each.difference is not None
    ]
    title = f"{words.TITLES.get(metric, metric)} against {shortened(comparison.baseline.name, MAX_TITLE)}"
    lower = any(each.lower_is_better for each in differences)
    return interval_charts.differences(marks, title, "difference (lower is better)" if lower else "difference")


def _slice_figure(comparison: Comparison, candidate: str) -> go.Figure | None:
    slices = [part for part in comparison.slices if part.candidate == candidate and part.difference is not None]
    if not slices:
        return None
    metric = main_metric(comparison)
    metric = metric if any(part.metric == metric for part in slices) else slices[0].metric
    slices = [part for part in slices if part.metric == metric]
    rank = {"worse": 0, "better": 1}
    by_importance = sorted(slices, key=lambda part: (rank.get(part.verdict, 2), -abs(part.difference or 0.0)))
    shown = {id(part) for part in by_importance[:MAX_SLICES]}
    marks = [
        Mark(
            f"{part.field.replace('_', ' ')} = {part.group} ({part.examples:,})",
            float(part.difference or 0.0),
            part.difference_low,
            part.difference_high,
            part.verdict,
            _hover(part.difference, part.difference_low, part.difference_high),
        )
        for part in slices
        if id(part) in shown
    ]
    title = f"{words.TITLES.get(metric or '', metric)}: {shortened(candidate, MAX_TITLE)}"
    return interval_charts.differences(marks, title, "difference")


def _hover(difference: float | None, low: float | None, high: float | None) -> str:
    bounds = "" if low is None or high is None else words.bounds_text((low, high))
    return "–" if difference is None else words.signed(difference) + bounds


def _headline(comparison: Comparison) -> tuple[str, str]:
    """Return the verdict of a single candidate or the number by verdict, and the tone: good, bad or open."""
    if comparison.gate is not None and not comparison.gate.passed:
        return "The regression gate failed.", "bad"
    verdicts = list(comparison.verdicts.values())
    metric = main_metric(comparison)
    counts = Counter(difference.verdict for difference in comparison.differences if difference.metric == metric)
    tone = "good" if counts["better"] and not counts["worse"] else "bad" if counts["worse"] else "open"
    if len(verdicts) == 1:
        return verdicts[0] + _worse_slices(comparison), tone
    words_for = {"no difference shown": "with no difference shown"}
    summary = ", ".join(f"{count} {words_for.get(verdict, verdict)}" for verdict, count in counts.items())
    title = words.TITLES.get(metric or "", metric or "")
    of = f"{len(comparison.candidates)} candidates against {comparison.baseline.name}"
    text = f"{of}, by {title}: {summary}." if summary else f"{of}: no difference was computed."
    return text + _worse_slices(comparison), tone


def _worse_slices(comparison: Comparison) -> str:
    """Return a sentence on the slices that are worse; empty if none is."""
    worse = [part for part in comparison.slices if part.verdict == "worse"]
    if not worse:
        return ""
    largest = max(worse, key=lambda part: abs(part.difference or 0.0))
    who = f" ({largest.candidate})" if len(comparison.candidates) > 1 else ""
    more = f", and in {len(worse) - 1:,} more slice{'s' * (len(worse) > 2)}" if len(worse) > 1 else ""
    return f" Worse where {largest.field.replace('_', ' ')} is {largest.group}{who}{more}."


def _key_facts(comparison: Comparison) -> list[tuple[str, str]]:
    facts = {
        "baseline": comparison.baseline.name,
        "candidates": f"{len(comparison.candidates):,}",
        rows_of(comparison.baseline): f"{comparison.examples:,}",
        "split": comparison.split,
        "gate": None if comparison.gate is None else "passed" if comparison.gate.passed else "failed",
        "made": moment(comparison.created) if comparison.created else None,
    }
    return [(name, value) for name, value in facts.items() if value]


def _browsed(changed: dict[str, Any]) -> dict[str, Any]:
    """Return the changed examples of a candidate as one list of rows, each with its kind of change."""
    rows = [row | {"right": False, "change": "broken"} for row in changed["broken"]]
    rows += [row | {"right": True, "change": "fixed"} for row in changed["fixed"]]
    listed = {row["example_id"] for row in rows}
    moved = [row for row in changed["moved"] if row["example_id"] not in listed]
    rows += [row | {"right": row["answer"] == row["target"], "change": "moved"} for row in moved]
    return {key: changed[key] for key in ("candidate", "fixed_count", "broken_count")} | {"rows": rows}
