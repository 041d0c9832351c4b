"""Metrics that are a share over examples, taken apart: what each example adds to the sum above and the sum below."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kamerton.score.columns import is_generated, is_labelled, label_indices, token_counts
from kamerton.score.metrics import OWN, example_scores
from kamerton.score.text import EXAMPLE_MEANS

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A metric as sum(top) / sum(bottom) over examples: `[examples]` each."""

    top: Floats
    bottom: Floats

    @property
    def right(self) -> NDArray[np.bool_] | None:
        """Which of the examples that count are right, if each is an answer that is right or wrong; else None."""
        if np.isin(self.bottom, (0, 1)).all() and np.isin(self.top, (0, 1)).all():
            return self.top[self.bottom > 0].astype(bool)
        return None


def ratios(table: pa.Table) -> dict[str, Ratio]:
    """The metrics of a score table that are such a share; a metric with an undefined value has none."""
    return {name: ratio for name, ratio in _ratios(table) if np.isfinite(ratio.top).all() and ratio.bottom.sum() > 0}


def _ratios(table: pa.Table) -> Iterator[tuple[str, Ratio]]:
    if is_labelled(table):
        truth, guess = label_indices(table)
        counts = truth >= 0
        yield "accuracy", Ratio(((truth == guess) & counts).astype(np.float64), counts.astype(np.float64))
    scores = example_scores(table)
    for name in EXAMPLE_MEANS if is_generated(table) else ():
        yield name, Ratio(scores[name], np.ones(table.num_rows))
    for name in (column.removeprefix(OWN) for column in table.column_names if column.startswith(OWN)):
        known = np.isfinite(scores[name])
        yield name, Ratio(np.where(known, scores[name], 0.0), known.astype(np.float64))
    nll, targets, correct = token_counts(table)
    yield "loss", Ratio(nll, targets)
    yield "token_accuracy", Ratio(correct, targets)
