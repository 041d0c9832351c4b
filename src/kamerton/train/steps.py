"""Which examples the optimizer steps of a run hold, and how many steps there are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from kamerton.config.schema import Config
from kamerton.data.encode import Encoded
from kamerton.data.module import FineTuneData
from kamerton.plan.epoch import membership
from kamerton.train.rundir import RunDirectory


def limited(config: Config, data: Encoded, run: RunDirectory, console: Console) -> Encoded:
    """The examples of the steps that `trainer.limit_train_batches` leaves of an epoch: the same in every epoch."""
    steps, limit = -(-len(data) // config.batch.size), config.trainer.get("limit_train_batches")
    kept = steps if limit is None else min(steps, limit if isinstance(limit, int) else max(1, int(steps * limit)))
    if kept == steps:
        return data
    rows = membership(len(data), seed=config.seed, epoch=0)[: kept * config.batch.size]
    message = f"trainer.limit_train_batches={limit}: every epoch is the same {len(rows):,} of {len(data):,} examples"
    run.event("warn", "limited", message)
    console.print(f"note   {message}", highlight=False)
    return data.select(np.sort(rows))


def step_data(
    config: Config, encoded: dict[str, Encoded], tokenizer: Any, label_weights: dict[str, float] | None
) -> FineTuneData:
    """The examples in optimizer steps, laid out as was settled."""
    batch = config.batch
    return FineTuneData(
        encoded["train"],
        encoded.get("validation"),
        seed=config.seed,
        batch_size=batch.size,
        max_tokens=int(batch.max_tokens),  # settled
        cut=batch.cut,
        pad=tokenizer.pad_token_id,
        group_by_length=batch.group_by_length,
        weights=_weights(encoded["train"], label_weights),
    )


def _weights(data: Encoded, label_weights: dict[str, float] | None) -> npt.NDArray[np.float64] | None:
    """How much each training example counts in the loss: by its label, where the data are balanced so."""
    if label_weights is None:
        return None
    return np.array([label_weights[label] for label in data.examples.completions.to_pylist()])


def total_steps(config: Config, steps_per_epoch: int) -> int:
    """Optimizer steps of the whole run."""
    steps = int(config.trainer["max_epochs"]) * steps_per_epoch
    most = int(config.trainer.get("max_steps", -1))
    return steps if most == -1 else min(steps, most)
