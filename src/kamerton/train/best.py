"""What `run.json` says of the weights that a run keeps: which checkpoint, by what it was chosen, and its metrics."""

from __future__ import annotations

import os

from kamerton.monitor.series import read_rows
from kamerton.run.checkpoints import LAST, best_checkpoint, read_checkpoint
from kamerton.run.directory import RunDirectory


def record_best(run: RunDirectory) -> None:
    """Note the kept checkpoint as `best`, and as `metrics.best` the validation of its step.

    While a run trains `metrics.best` follows the monitored metric; which step was saved, the checkpoint itself says.
    Nothing where no step was trained. Raises `RunFailed` where the best checkpoint is gone.
    """
    if not (run.checkpoints / LAST).exists():
        return
    kept = best_checkpoint(run.checkpoints)
    step = int(read_checkpoint(kept.path)["global_step"])
    known = (run.record.get("metrics") or {}).get("best") or {}
    metrics = known if known.get("step") == step else _validated(run, step)
    run.update(
        best={
            "checkpoint": os.path.relpath(kept.path, run.path),
            "step": step,
            "monitor": kept.monitor,
            "mode": kept.mode,
            "value": kept.value,
        },
        **({"metrics": {"best": metrics}} if metrics else {}),
    )


def _validated(run: RunDirectory, step: int) -> dict[str, float]:
    """The newest validation up to a step, empty if there was none."""
    rows = [row for row in read_rows(run.path / "metrics.csv") if row[0] <= step and "val/loss" in row[1]]
    if not rows:
        return {}
    at, values = rows[-1]
    return {"step": at, **{key.removeprefix("val/"): value for key, value in values.items() if key.startswith("val/")}}
