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

__version__ = "0.1.0"
__all__ = [
    "DataExample",
    "DataOptions",
    "SplitOptions",
    "ValidationResult",
    "prepare",
    "read_examples",
    "split",
    "validate",
]

_ROOMS = dict.fromkeys(__all__, "kamerton.data")


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ROOMS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
