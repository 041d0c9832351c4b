"""Runs that are stopped and resumed: a signal at a certain step, and whether two runs have one result."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from support.runs import metric_rows, record


def signal_in(patch: pytest.MonkeyPatch, method: str, step: int, number: signal.Signals, times: int = 1) -> None:
    """A real signal, in the first call of the module's `method` at global step `step`."""
    from kamerton.train.module import FineTuneModule

    plain, due = getattr(FineTuneModule, method), [step]

    def signalling(self: FineTuneModule, batch: Any, batch_idx: int) -> Any:
        if due == [self.global_step]:
            due.clear()
            for _ in range(times):
                os.kill(os.getpid(), number)
        return plain(self, batch, batch_idx)

    patch.setattr(FineTuneModule, method, signalling)


def same_result(run: Path, other: Path) -> bool:
    """Weights, logged values and metrics, bit for bit; what measures time aside."""
    for part in ("state_dict", "averaged"):
        before, after = (part_of(folder / "checkpoints" / "last.ckpt", part) for folder in (run, other))
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
    assert timeless(metric_rows(run)) == timeless(metric_rows(other))
    result, expected = record(run)["metrics"], record(other)["metrics"]
    return all(timeless([result[split]]) == timeless([expected[split]]) for split in result.keys() | expected.keys())


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without what measures time."""
    return [{key: row[key] for key in row if "tokens_per_s" not in key and "perf/" not in key} for row in rows]


def part_of(checkpoint: Path, key: str = "averaged") -> Any:
    """A part of a checkpoint, empty if it has none."""
    return torch.load(checkpoint, weights_only=True).get(key, {})
