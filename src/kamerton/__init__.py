"""Kamerton: an experiment framework for fine-tuning language models.

The names below are imported from their rooms when they are first used, so that `import kamerton` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kamerton.data import (
        DataExample,
        DataOptions,
        SplitOptions,
        ValidationResult,
        prepare,
        read_examples,
        split,
        validate,
    )
    from kamerton.decide.compare.predictions import validate_results
    from kamerton.jobs.config import FineTuningConfig
    from kamerton.jobs.data import DataParts, ProcessedData
    from kamerton.jobs.job import TrainingJob
    from kamerton.jobs.manager import FineTuningManager
    from kamerton.jobs.monitor import TrainingMetrics, TrainingMonitor
    from kamerton.jobs.results import EvaluationMetrics, EvaluationResult, Ranking
    from kamerton.jobs.store import JobStatus
    from kamerton.monitor import Issue

__version__ = "0.2.0.dev0"
__all__ = [
    "DataExample",
    "DataOptions",
    "DataParts",
    "EvaluationMetrics",
    "EvaluationResult",
    "FineTuningConfig",
    "FineTuningManager",
    "Issue",
    "JobStatus",
    "ProcessedData",
    "Ranking",
    "SplitOptions",
    "TrainingJob",
    "TrainingMetrics",
    "TrainingMonitor",
    "ValidationResult",
    "prepare",
    "read_examples",
    "split",
    "validate",
    "validate_results",
]

_ROOMS = dict.fromkeys(__all__, "kamerton.data") | {
    "DataParts": "kamerton.jobs.data",
    "EvaluationMetrics": "kamerton.jobs.results",
    "EvaluationResult": "kamerton.jobs.results",
    "FineTuningConfig": "kamerton.jobs.config",
    "FineTuningManager": "kamerton.jobs.manager",
    "Issue": "kamerton.monitor",
    "JobStatus": "kamerton.jobs.store",
    "ProcessedData": "kamerton.jobs.data",
    "Ranking": "kamerton.jobs.results",
    "TrainingJob": "kamerton.jobs.job",
    "TrainingMetrics": "kamerton.jobs.monitor",
    "TrainingMonitor": "kamerton.jobs.monitor",
    "validate_results": "kamerton.decide.compare.predictions",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ROOMS[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
