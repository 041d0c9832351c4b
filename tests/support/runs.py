"""`kamerton train` on the tiny model, and readers of the run directories that it leaves."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kamerton.cli import main

Train = Callable[..., Path]
TINY = ("model=tiny", "data=jsonl", "batch.size=8", "logger=csv", "callbacks.progress_bar=null")
# A test that looks at one of these asks for it: base=true, baselines=true, model.export=adapter.
LEAN = (*TINY, "base=false", "baselines=false", "model.export=null", "callbacks.throughput=null")


def trainer(data: Path, outputs: Path, *options: str) -> Train:
    """A function that runs `kamerton train` with `options` and its own, and returns the directory of the newest run."""

    def train(*overrides: str, code: int = 0) -> Path:
        assert main(["train", *options, f"data.path={data}", f"paths.outputs={outputs}", *overrides]) == code
        runs = sorted(outputs.glob("*/*/run.json"), key=lambda path: path.stat().st_mtime_ns)
        return runs[-1].parent if runs else outputs

    return train


def use_cache(user_cache: str | None, patch: pytest.MonkeyPatch) -> None:
    """Take the real model from the user's cache, the fixture `user_cache`."""
    patch.delenv("KAMERTON_CACHE") if user_cache is None else patch.setenv("KAMERTON_CACHE", user_cache)


def record(run: Path) -> dict[str, Any]:
    """The content of `run.json`."""
    return dict(json.loads((run / "run.json").read_text()))


def metric_rows(run: Path) -> list[dict[str, str]]:
    """The rows of `metrics.csv`."""
    return csv_rows(run / "metrics.csv")


def csv_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by column."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def saved(run: Path, name: str = "last") -> dict[str, Any]:
    """The content of a checkpoint."""
    return dict(torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True))


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    """The weights of a checkpoint as they were trained, not averaged."""
    return dict(saved(run, name)["state_dict"])
