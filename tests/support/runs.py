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
from kamerton.config.check import to_config
from kamerton.config.compose import compose_values
from kamerton.data.inputs import load_inputs
from kamerton.pipeline.validation import scored_examples
from support.rows import write_jsonl

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


def validation_rows(data: Path, file: Path, *options: str) -> Path:
    """Write the rows that validations of `data` score to a file."""
    config = to_config(compose_values(["model=tiny", "data=jsonl", f"data.path={data}", *options]))
    scored = scored_examples(config, load_inputs(config.data, config.split, config.model))
    return write_jsonl(file, [{"prompt": row.prompt, "completion": row.completion} for row in scored.examples])


def evaluated(run: Path, outputs: Path, checkpoint: str, *options: str) -> dict[str, float]:
    """The metrics of `kamerton evaluate` for a checkpoint of the run."""
    words = [f"checkpoint={run}/checkpoints/{checkpoint}.ckpt", f"paths.outputs={outputs}", "name=again", "data=jsonl"]
    assert main(["evaluate", *words, *options]) == 0
    return dict(json.loads((outputs / "evaluations" / "again" / "evaluation.json").read_text())["metrics"]["test"])
