"""What the data tests share: the gate as a fixture, and the helpers of `data_rows`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from kamerton.data.gate import Prepared, prepare
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.errors import UserError
from support.rows import write_jsonl


@pytest.fixture
def gate(tmp_path: Path) -> Callable[..., Prepared]:
    """Return `gate(rows, data options, split=SplitOptions())`, which passes rows through the gate."""

    def run(rows: Iterable[object], /, split: SplitOptions | None = None, **options: Any) -> Prepared:
        path = write_jsonl(tmp_path / "rows.jsonl", rows)
        return prepare(DataOptions(path=str(path), **options), split or SplitOptions(), cache=None)

    return run


@pytest.fixture
def codes(gate: Callable[..., Prepared]) -> Callable[..., set[str]]:
    """The codes of the errors that the gate raises, or of its warnings."""

    def run(rows: Iterable[object], /, split: SplitOptions | None = None, **options: Any) -> set[str]:
        try:
            return {warning["code"] for warning in gate(rows, split, **options).report["warnings"]}
        except UserError as error:
            return {fault.code for fault in error.faults if fault.severity == "error"}

    return run
