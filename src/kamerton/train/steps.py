"""Which examples the optimizer steps of a run hold, and how many steps there are."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from kamerton.config.schema import Config, mapping_at
from kamerton.data.encode.arrays import Encoded
from kamerton.errors import Fault, UserError
from kamerton.plan.epoch import membership
from kamerton.run.checkpoints import LAST
from kamerton.run.directory import RunDirectory, read_config
from kamerton.train.batches import FineTuneData
from kamerton.train.schedule import WARMUP, curve, warmup_length


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
        packing=batch.cut,
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
    return min(_limits(config, steps_per_epoch).values())


def with_begun(config: Config, run: RunDirectory) -> Config:
    """The configuration with the defaults that its run directory has: those of when it began (`as_begun`)."""
    written = read_config(run.path)
    epochs = mapping_at(written, "trainer").get("max_epochs", config.trainer["max_epochs"])
    data = dataclasses.replace(config.data, control_tokens=mapping_at(written, "data")["control_tokens"])
    return dataclasses.replace(config, trainer={**config.trainer, "max_epochs": epochs}, data=data)


def with_warmup(config: Config, run: RunDirectory, steps: int, console: Console) -> Config:
    """The configuration with the number of steps in which the learning rate rises, also kept in `run.json`.

    A run that goes on keeps the number that it began with. A warm-up as long as the run is reported; raises
    `UserError` where the learning rate would be 0 at every step.
    """
    options = config.scheduler
    warmup = warmup_length(steps, options.warmup_steps, options.warmup_ratio)
    if options.warmup_steps is None and options.warmup_ratio is None and run.resuming:
        before = (run.record.get("schedule") or {}).get("warmup_steps")
        if before is None and (run.checkpoints / LAST).exists():
            before = WARMUP  # what older runs had, whatever their length
        warmup = warmup if before is None else before
    options = dataclasses.replace(options, warmup_steps=warmup, warmup_ratio=None)
    share = curve(steps, **dataclasses.asdict(options))
    highest = max(share(step) for step in range(min(steps, warmup + 1)))
    message = f"scheduler.warmup_steps is {warmup:,}, and the run has {steps:,} step{'s' if steps != 1 else ''}"
    fix = "leave scheduler.warmup_steps out (a tenth of the steps, at most 10), make it shorter, or train longer"
    if highest == 0:
        message += ": the learning rate would be 0 throughout, and nothing would be learnt"
        raise UserError([Fault("schedule.warmup", message, fix, column="scheduler.warmup_steps")])
    if warmup >= steps:
        message += f": the learning rate ends its rise at {highest:.0%} of optimizer.lr"
        run.event("warn", "schedule.warmup", message, advice=fix)
        console.print(f"note   {message}; {fix}", highlight=False)
    run.update(schedule={"warmup_steps": warmup})
    return dataclasses.replace(config, scheduler=options)


def binding(config: Config, steps_per_epoch: int) -> tuple[str, str]:
    """The limit that ends the run, `max_epochs` or `max_steps`, and a text that names it, and the other if there is."""
    limits = _limits(config, steps_per_epoch)
    name = min(limits, key=lambda key: limits[key])
    shown = [f"trainer.{key}={config.trainer[key]}" for key in sorted(limits, key=lambda key: limits[key])]
    return name, (" ends before " if len(set(limits.values())) > 1 else " and ").join(shown)


def _limits(config: Config, steps_per_epoch: int) -> dict[str, int]:
    """In optimizer steps, the limits that are set; at least one is."""
    epochs, most = int(config.trainer["max_epochs"]), int(config.trainer.get("max_steps", -1))
    return {
        **({"max_epochs": epochs * steps_per_epoch} if epochs != -1 else {}),
        **({"max_steps": most} if most != -1 else {}),
    }
