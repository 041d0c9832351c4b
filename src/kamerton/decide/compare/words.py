"""A comparison in sentences: one verdict for each candidate."""

from __future__ import annotations

from collections.abc import Sequence

from kamerton.decide.compare.comparison import Difference, Side
from kamerton.words import TITLES, bounds_text, number, signed

FIRST = ("accuracy", "exact_match", "f1", "chrf", "rougeL", "loss")  # the metric that a verdict speaks of


def title(metric: str) -> str:
    """A metric's name for people."""
    return TITLES.get(metric, metric.replace("_", " "))


def chief(found: Sequence[Difference]) -> Difference | None:
    """The difference that a verdict speaks of: the first tested metric of `FIRST`, else the first tested one."""
    tested = {one.metric: one for one in found if one.p is not None}
    return next((tested[name] for name in FIRST if name in tested), next(iter(tested.values()), None))


def sentence(side: Side, baseline: Side, found: Sequence[Difference], examples: int) -> str:
    """Whether the candidate is better than the baseline, by how much, and how sure that is."""
    one = chief([difference for difference in found if difference.candidate == side.name])
    if one is None or one.difference is None:
        return f"{side.name}: nothing can be tested against {baseline.name}; they have no metric in common."
    seeds = f", {len(side.runs)} seeds" if len(side.runs) > 1 else ""
    values = f"{title(one.metric)} {number(one.baseline_value)} → {number(one.value)} on {examples:,} examples{seeds}"
    bounds = bounds_text((one.low, one.high)) if one.low is not None else ""
    chance = f"difference {signed(one.difference)}{bounds}, p {p_value(one.p_holm)} ({one.test})"
    if one.verdict in ("better", "worse"):
        return f"{side.name} is {one.verdict} than {baseline.name}: {values}; {chance}."
    blind = f"; differences of {number(one.detectable)} or more would show" if one.detectable else ""
    return f"{side.name}: no difference from {baseline.name} shown: {values}; {chance}{blind}."


def verdict_word(verdict: str, difference: float | None, low: float | None, high: float | None) -> str:
    """A verdict in the words of a run's report: better, worse, same (on every example), unclear; – if not tested."""
    if verdict == "not tested":
        return "–"
    if verdict == "no difference shown":
        return "same" if difference == low == high == 0 else "unclear"
    return verdict


def p_value(p: float | None) -> str:
    """`= 0.012`, or `< 0.001`."""
    if p is None:
        return "unknown"
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
