"""Data: from files to encoded examples, every fault named before training.

The rooms, in the order a row passes them:

- `read/`: files to stored rows (`sources` → `records` → `ingest` → `rows`), by the rooms `locations` (which files),
  `files`, `json`, `tables` (their raw rows), `exports`, `columns`, `conversations` (from a raw row to an example).
- `check/`: rows against rows: `duplicates`, `near` duplicates, `labels`, `outliers`.
- `splits/`: which rows train, validate and test (`assign`), `folds`, and `balance` of the training rows.
- `encode/`: rows to tokens (`render` → `tokenize` → `arrays`).

`gate` runs the first three with its `stages` and fills in a `data_report`, `inputs` adds the fourth; `report` and
`summary` show the result. All of them build on `example`, `options`, the fault `codes` and `faults`, and the row
`store`.

The public names are imported on first use:

- `validate(DataOptions(...))` → `ValidationResult` (`is_valid`, `errors`, `warnings`): returns the faults, raises none.
- `prepare(DataOptions(...), SplitOptions(...))` → `Prepared`: examples by split, mapped from disk; raises `UserError`.
- `read_examples(DataOptions(...))` and `split(examples)`: stream `DataExample`s, for data sets of any size.
- `write_report(prepared, folder)`: data_report.html, .md and .json, faults.jsonl and rejects.jsonl.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kamerton.data.example import DataExample, Message
    from kamerton.data.gate import Prepared, prepare
    from kamerton.data.options import Columns, DataOptions, Source, SplitOptions
    from kamerton.data.prompting import build_messages
    from kamerton.data.report import write_report
    from kamerton.data.splits.assign import split
    from kamerton.data.validation import ValidationResult, read_examples, validate

__all__ = [
    "Columns",
    "DataExample",
    "DataOptions",
    "Message",
    "Prepared",
    "Source",
    "SplitOptions",
    "ValidationResult",
    "build_messages",
    "prepare",
    "read_examples",
    "split",
    "validate",
    "write_report",
]

_EXPORTS = {
    "example": ("DataExample", "Message"),
    "gate": ("Prepared", "prepare"),
    "options": ("Columns", "DataOptions", "Source", "SplitOptions"),
    "prompting": ("build_messages",),
    "report": ("write_report",),
    "splits.assign": ("split",),
    "validation": ("ValidationResult", "read_examples", "validate"),
}
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
