"""The verdict on each candidate as a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from kamerton.decide.compare.comparison import Configuration, Difference
from kamerton.words import bounds_text, number, signed, title

MAIN_METRICS = (
    "accuracy",
    "reward",
    "call_exact",
    "preference_accuracy",
    "ranking_accuracy",
    "exact_match",
    "f1",
    "chrf",
    "rougeL",
    "margin",
    "loss",
)  # the first available one decides
_MOST_NAMED = 4  # of the other metrics


def main_difference(differences: Sequence[Difference]) -> Difference | None:
    """Return the difference that the verdict reports: of the first tested main metric, else the first tested one.

    If every pair is right in both, the margin says which is better.
    """
    tested = {each.metric: each for each in differences if each.p is not None and not _is_saturated(each)}
    return next((tested[name] for name in MAIN_METRICS if name in tested), next(iter(tested.values()), None))


def _is_saturated(difference: Difference) -> bool:
    is_of_pairs = difference.metric in ("preference_accuracy", "ranking_accuracy")
    return is_of_pairs and difference.baseline_value == difference.value == 1


def verdict_sentence(
    candidate: Configuration, baseline: Configuration, differences: Sequence[Difference], examples: int
) -> str:
    """Return whether the candidate is better than the baseline, by how much, and with what certainty.

    One metric decides (`main_difference`); others that differ are named.
    """
    own = [each for each in differences if each.candidate == candidate.name]
    main = main_difference(own)
    if main is None or main.difference is None:
        return f"{candidate.name}: not tested against {baseline.name}; they have no metric in common."
    name = title(main.metric)
    seeds = f", {len(candidate.runs)} seeds" if len(candidate.runs) > 1 else ""
    values = f"{number(main.baseline_value)} → {number(main.value)} on {examples:,} {rows_of(candidate)}{seeds}"
    bounds = bounds_text((main.low, main.high)) if main.low is not None else ""
    test = f"difference {signed(main.difference)}{bounds}, p {p_value(main.p_holm)} ({main.test})"
    if main.verdict in ("better", "worse"):
        return f"{candidate.name} is {main.verdict} than {baseline.name}: {name} {values}; {test}.{_others(own, main)}"
    power = f"; differences of {number(main.detectable)} or more would show" if main.detectable else ""
    sentence = f"{candidate.name}: no difference from {baseline.name} shown in {name}: {values}; {test}{power}."
    return sentence + _others(own, main)


def _others(differences: Sequence[Difference], main: Difference) -> str:
    """Return a sentence on the other metrics that are worse or better; empty if there are none."""
    parts = []
    for verdict in ("worse", "better"):
        titles = [title(each.metric) for each in differences if each.verdict == verdict and each is not main]
        if titles:
            listed = [*titles[:_MOST_NAMED], *([f"{len(titles) - _MOST_NAMED} more"] if titles[_MOST_NAMED:] else [])]
            parts.append(f"{verdict} in {', '.join(listed[:-1])}{' and ' if listed[1:] else ''}{listed[-1]}")
    return f" Other metrics: {'; '.join(parts)}." if parts else ""


def rows_of(configuration: Configuration) -> str:
    """Return what the compared rows are: pairs, completions or examples."""
    if "ranking_accuracy" in configuration.metrics:
        return "pairs"
    return "completions" if "margin" in configuration.metrics else "examples"


def metric_title(metric: str, configuration: Configuration) -> str:
    """Return the name of a metric in tables; the loss of pairs is that of the chosen completions."""
    return "loss (chosen)" if metric == "loss" and rows_of(configuration) == "pairs" else metric


def verdict_word(verdict: str, difference: float | None, low: float | None, high: float | None) -> str:
    """Return the verdict as one word: better, worse, same (on every example), unclear; – if not tested."""
    if verdict == "not tested":
        return "–"
    if verdict == "no difference shown":
        return "same" if difference == low == high == 0 else "unclear"
    return verdict


def p_value(p: float | None) -> str:
    """Return a p-value with its relation sign: `= 0.012`, or `< 0.001`."""
    if p is None:
        return "unknown"
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
