"""Ratio metrics (sum of numerators / sum of denominators over examples) by example."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kamerton.direction import PAIR_METRICS
from kamerton.score.call_metrics import CALL_METRICS, call_counts, has_calls
from kamerton.score.columns import is_generated, is_labelled, label_indices, token_counts
from kamerton.score.metrics import CUSTOM, example_scores
from kamerton.score.text import EXAMPLE_MEANS

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A metric as sum(numerator) / sum(denominator) over examples: `[examples]` each."""

    numerator: Floats
    denominator: Floats

    @property
    def right(self) -> NDArray[np.bool_] | None:
        """Whether each counted example is correct, for metrics of correct and wrong answers; otherwise None."""
        if np.isin(self.denominator, (0, 1)).all() and np.isin(self.numerator, (0, 1)).all():
            return self.numerator[self.denominator > 0].astype(bool)
        return None


def ratios(table: pa.Table) -> dict[str, Ratio]:
    """Return the ratio metrics of a score table by name; a metric with an undefined value is left out."""
    return {
        name: ratio
        for name, ratio in _ratios(table)
        if np.isfinite(ratio.numerator).all() and ratio.denominator.sum() > 0
    }


def _ratios(table: pa.Table) -> Iterator[tuple[str, Ratio]]:
    if is_labelled(table):
        truth, guess = label_indices(table)
        counts = truth >= 0
        yield "accuracy", Ratio(((truth == guess) & counts).astype(np.float64), counts.astype(np.float64))
    scores = example_scores(table)
    if is_generated(table):
        has_text = np.isfinite(scores["exact_match"])  # not the rows whose reference is calls alone
        for name in EXAMPLE_MEANS:
            yield name, Ratio(np.where(has_text, scores[name], 0.0), has_text.astype(np.float64))
    if has_calls(table):
        per_row = call_counts(table)
        for name, (numerator, denominator) in CALL_METRICS.items():
            yield name, Ratio(per_row[:, numerator], per_row[:, denominator])
    for name in (column.removeprefix(CUSTOM) for column in table.column_names if column.startswith(CUSTOM)):
        defined = np.isfinite(scores[name])
        yield name, Ratio(np.where(defined, scores[name], 0.0), defined.astype(np.float64))
    for name in PAIR_METRICS:
        if name in scores:
            yield name, Ratio(scores[name], np.ones(len(scores[name])))
    nll, targets, correct = token_counts(table)
    yield "loss", Ratio(nll, targets)
    yield "token_accuracy", Ratio(correct, targets)
