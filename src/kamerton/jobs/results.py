"""Results of evaluations and comparisons, as Python code receives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from kamerton.decide.compare.comparison import Comparison


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """How good a model is on a test set. `EvaluationMetrics` is another name of it.

    Args:
        model_id: the model.
        metrics: values by name: `loss`, `perplexity`, `token_accuracy`; for labels `accuracy`, `f1`, `precision`,
            `recall`, `ece`; for generated texts `exact_match`, …; custom metrics by their names.
        intervals: 95 % intervals of the metrics.
        path: the run, evaluation or table that they come from.
        scores: the score table, one row per example.

    Example:
        >>> import asyncio
        >>> from kamerton import FineTuningManager
        >>> result = asyncio.run(FineTuningManager("outputs").evaluate_model("trec/ID"))
        >>> result.accuracy == result.metrics["accuracy"], result.scores.num_rows
        (True, 15)
        >>> low, high = result.intervals["accuracy"]
        >>> low <= result.accuracy <= high
        True
    """

    model_id: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    path: Path
    scores: pa.Table = field(repr=False)

    @property
    def accuracy(self) -> float | None:
        """The fraction of correct labels; None for free text."""
        return self.metrics.get("accuracy")

    @property
    def f1(self) -> float | None:
        """The mean of the classes' F1 scores."""
        return self.metrics.get("f1")

    @property
    def f1_score(self) -> float | None:
        """Alias of `f1`."""
        return self.f1

    @property
    def precision(self) -> float | None:
        """The mean of the classes' precisions."""
        return self.metrics.get("precision")

    @property
    def recall(self) -> float | None:
        """The mean of the classes' recalls."""
        return self.metrics.get("recall")

    @property
    def custom_metrics(self) -> dict[str, float]:
        """The metrics added by the configuration (`metrics.NAME`), by name."""
        from kamerton.score.metrics import example_metrics, table_metrics

        names = [*example_metrics(self.scores), *table_metrics(self.scores)]
        return {name: self.metrics[name] for name in names if name in self.metrics}


EvaluationMetrics = EvaluationResult


@dataclass(frozen=True, slots=True)
class RankedModel:
    """A model's rank; `verdict` is the tested difference from the baseline (None for the baseline)."""

    rank: int
    model_id: str
    metrics: Mapping[str, float]
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """Models from the best to the worst.

    Args:
        metric: the metric they are ordered by.
        models: a `RankedModel` for each: `rank`, `model_id`, `metrics`, `verdict`.
        comparison: every difference with its test.

    Example:
        >>> import asyncio
        >>> from kamerton import FineTuningManager
        >>> ranking = asyncio.run(FineTuningManager("outputs").compare_models(["trec/ID", "NAME/ID"]))
        >>> [model.rank for model in ranking.models], ranking.metric
        ([1, 2], 'accuracy')
    """

    metric: str
    models: tuple[RankedModel, ...]
    comparison: Comparison = field(repr=False)

    @property
    def best(self) -> RankedModel:
        """The model of rank 1."""
        return self.models[0]
