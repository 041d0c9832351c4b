"""Errors of two configurations: confused pairs of labels, and the examples that changed most."""

from __future__ import annotations

from collections import Counter

from kamerton.decide.compare.calls import call_confusions
from kamerton.decide.compare.comparison import Changed, ConfusionPair
from kamerton.decide.compare.configurations import Group
from kamerton.decide.compare.examples import SHOWN, changed, moved
from kamerton.score.call_metrics import has_calls
from kamerton.score.columns import is_labelled
from kamerton.score.label_metrics import NO_LABEL

MAX_PAIRS = 20


def confusions(base: Group, candidate: Group) -> list[ConfusionPair]:
    """Return the pairs of labels, or of called functions, that either of them confuses, most frequent first."""
    have_calls = has_calls(base.first) and has_calls(candidate.first)
    if not have_calls and not (is_labelled(base.first) and is_labelled(candidate.first)):
        return []
    before, after = _counts(base), _counts(candidate)
    both = {pair: (before.get(pair, 0.0), after.get(pair, 0.0)) for pair in {**before, **after}}
    pairs = sorted(both, key=lambda pair: (-max(both[pair]), pair))
    return [ConfusionPair(candidate.name, *pair, *both[pair]) for pair in pairs[:MAX_PAIRS]]


def _counts(group: Group) -> dict[tuple[str, str], float]:
    """Return how often each label (function) was answered by each other one, as a mean over the runs."""
    counts: Counter[tuple[str, str]] = Counter()
    for run in group.runs:
        if has_calls(run.table):
            counts += call_confusions(run.table)
            continue
        labels = (run.table[name].to_pylist() for name in ("label", "predicted_label"))
        for true, guess in zip(*labels, strict=True):
            if true is not None and true != guess:
                counts[true, guess or NO_LABEL] += 1
    return {pair: count / len(group.runs) for pair, count in counts.items()}


def changed_examples(base: Group, candidate: Group, limit: int = SHOWN) -> Changed:
    """Return the examples that differ most between the first runs of the baseline and of a candidate."""
    change = changed(base.first, candidate.first, limit)
    fixed, broken = tuple(change["fixed"]), tuple(change["broken"])
    counts = change["fixed_count"], change["broken_count"]
    return Changed(candidate.name, *counts, fixed, broken, tuple(moved(base.first, candidate.first, limit)))
