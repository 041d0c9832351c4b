"""The reference trajectory: 24 recorded steps of `kamerton train` on the tiny model.

    PYTHONPATH=tests python tests/invariant/record.py

rewrites `references/tiny.json`. The other tests here compare one way of computing with another one of the same
session: what moves all of them alike (loss, schedule, seed, order of the examples) shows here alone. Record anew only
if the numbers are meant to change, and name the reason in the commit.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from support.rows import animals
from support.runs import LEAN, metric_rows, trainer

REFERENCE = Path(__file__).with_name("references") / "tiny.json"
STEPS = 24
COLUMNS = ("train/loss", "train/grad_norm", "lr")
# The eps bounds the effect of rounding if a gradient is near zero (see test_trajectory.py).
OPTIONS = (*LEAN, "trainer.accelerator=cpu", "trainer.max_epochs=3", f"trainer.max_steps={STEPS}", "optimizer.eps=1e-4")
ADAPTERS = ("lora", "full")


def trajectory(folder: Path, adapter: str) -> dict[str, list[float]]:
    """Each step's loss, gradient norm and learning rate."""
    train = trainer(animals(folder / "animals.jsonl"), folder / "outputs", *OPTIONS)
    rows = [row for row in metric_rows(train(f"adapter={adapter}")) if row.get("train/loss")]
    return {column: [float(row[column]) for row in rows] for column in COLUMNS}


def main() -> None:
    """Write the reference."""
    result: dict[str, Any] = {"torch": torch.__version__, "machine": platform.machine(), "steps": STEPS}
    result["relative_tolerance"] = {"train/loss": 1e-4, "train/grad_norm": 1e-3, "lr": 1e-6}
    for adapter in ADAPTERS:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["KAMERTON_CACHE"] = f"{folder}/cache"
            result[adapter] = trajectory(Path(folder), adapter)
    REFERENCE.parent.mkdir(exist_ok=True)
    REFERENCE.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
