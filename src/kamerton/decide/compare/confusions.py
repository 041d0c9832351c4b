"""Where two models go wrong: pairs of labels that are confused, and the examples that changed most."""

from __future__ import annotations

from collections import Counter

from kamerton.decide.compare.comparison import Changed, ConfusionPair
from kamerton.decide.compare.examples import SHOWN, changed, moved
from kamerton.decide.compare.sides import Group
from kamerton.score.columns import is_labelled
from kamerton.score.metrics import NO_LABEL

MOST_PAIRS = 20


def confusions(base: Group, side: Group) -> list[ConfusionPair]:
    """The pairs of labels that either side confuses, the most frequent ones of both first."""
    if not (is_labelled(base.first) and is_labelled(side.first)):
        return []
    before, after = _counts(base), _counts(side)
    both = {pair: (before.get(pair, 0.0), after.get(pair, 0.0)) for pair in {**before, **after}}
    pairs = sorted(both, key=lambda pair: (-max(both[pair]), pair))
    return [ConfusionPair(side.name, *pair, *both[pair]) for pair in pairs[:MOST_PAIRS]]


def _counts(group: Group) -> dict[tuple[str, str], float]:
    """How often each label was answered by another one: means over the runs."""
    counts: Counter[tuple[str, str]] = Counter()
    for run in group.runs:
        labels = (run.table[name].to_pylist() for name in ("label", "predicted_label"))
        for true, guess in zip(*labels, strict=True):
            if true is not None and true != guess:
                counts[true, guess or NO_LABEL] += 1
    return {pair: count / len(group.runs) for pair, count in counts.items()}


def changes(base: Group, side: Group, limit: int = SHOWN) -> Changed:
    """What the first run of a candidate fixed, broke and moved against the first run of the baseline."""
    found = changed(base.first, side.first, limit)
    fixed, broken = tuple(found["fixed"]), tuple(found["broken"])
    counts = found["fixed_count"], found["broken_count"]
    return Changed(side.name, *counts, fixed, broken, tuple(moved(base.first, side.first, limit)))
