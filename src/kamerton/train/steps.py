"""The optimizer steps of a run: their number, their examples and the warm-up."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from rich.console import Console

from kamerton.config.schema import Config, mapping_at
from kamerton.data.encode.arrays import Encoded
from kamerton.errors import Fault, UserError
from kamerton.objective.judgements import JudgedRows
from kamerton.objective.sequences import Both, EncodedExamples, Mismatched
from kamerton.plan.epoch import membership
from kamerton.run.checkpoints import LAST
from kamerton.run.directory import RunDirectory, read_config
from kamerton.train.data_module import FineTuneData
from kamerton.train.schedule import WARMUP, curve, warmup_length
from kamerton.train.step_preferences import Preferences


def limit_train_batches(config: Config, data: Encoded, run: RunDirectory, console: Console) -> Encoded:
    """Select the examples of the first `trainer.limit_train_batches` steps, the same in every epoch."""
    starts = data.starts
    steps, limit = -(-len(starts) // config.batch.size), config.trainer.get("limit_train_batches")
    kept = steps if limit is None else min(steps, limit if isinstance(limit, int) else max(1, int(steps * limit)))
    if kept == steps:
        return data
    chosen = membership(len(starts), seed=config.seed, epoch=0)[: kept * config.batch.size]
    ends = np.append(starts[1:], len(data))
    rows = np.concatenate([np.arange(starts[i], ends[i]) for i in np.sort(chosen)])
    message = (
        f"trainer.limit_train_batches={limit}: every epoch is the same {len(chosen):,} of {len(starts):,} examples"
    )
    run.event("warn", "limited", message)
    console.print(f"note   {message}", highlight=False)
    return data.select(rows)


def step_data(
    config: Config,
    encoded: dict[str, Encoded],
    tokenizer: Any,
    label_weights: dict[str, float] | None,
    preferences: Preferences | None = None,
) -> FineTuneData:
    """Return the data module of a run whose batch layout has been chosen (`max_tokens` is a number)."""
    batch, weights = config.batch, None
    train = encoded["train"]
    if label_weights is not None:  # of each training example, by its label
        labels = train.examples.completions.to_pylist()
        weights = np.array([label_weights[label] for label in labels])
    if train.weights is not None:  # of its turn and row in the data
        weights = train.weights if weights is None else weights * train.weights
    validation: EncodedExamples | None = encoded.get("validation")
    others = None
    if preferences is not None and isinstance(preferences[0], JudgedRows):
        others = Mismatched(train, train.starts)
        if validation is not None:
            validation = Both(validation, Mismatched(validation, encoded["validation"].starts))
    return FineTuneData(
        train,
        validation,
        seed=config.seed,
        batch_size=batch.size,
        max_tokens=int(batch.max_tokens),
        packing=batch.cut,
        pad=tokenizer.pad_token_id,
        group_by_length=batch.group_by_length,
        weights=weights,
        preferences=preferences,
        others=others,
    )


def total_steps(config: Config, steps_per_epoch: int) -> int:
    """Return the number of optimizer steps of the whole run."""
    return min(_limits(config, steps_per_epoch).values())


def with_recorded_defaults(config: Config, run: RunDirectory) -> Config:
    """Replace the defaults that changed since the run began by those in its `config.yaml` (`as_begun`)."""
    written = read_config(run.path)
    epochs = mapping_at(written, "trainer").get("max_epochs", config.trainer["max_epochs"])
    data = dataclasses.replace(config.data, control_tokens=mapping_at(written, "data")["control_tokens"])
    return dataclasses.replace(config, trainer={**config.trainer, "max_epochs": epochs}, data=data)


def with_warmup(config: Config, run: RunDirectory, steps: int, console: Console) -> Config:
    """Return the configuration with the number of warm-up steps, which is also recorded in `run.json`.

    A resumed run keeps its number. A warm-up at least as long as the run is reported. Raises `UserError` if the
    learning rate would be 0 at every step.
    """
    options = config.scheduler
    warmup = warmup_length(steps, options.warmup_steps, options.warmup_ratio)
    if options.warmup_steps is None and options.warmup_ratio is None and run.resuming:
        before = run.record.schedule.warmup_steps
        if before is None and (run.checkpoints / LAST).exists():
            before = WARMUP  # the default of older runs, at any length
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


def binding_limit(config: Config, steps_per_epoch: int) -> tuple[str, str]:
    """Return the limit that ends the run, `max_epochs` or `max_steps`, and a text that names all configured limits."""
    limits = _limits(config, steps_per_epoch)
    name = min(limits, key=lambda key: limits[key])
    settings = [f"trainer.{key}={config.trainer[key]}" for key in sorted(limits, key=lambda key: limits[key])]
    return name, (" ends before " if len(set(limits.values())) > 1 else " and ").join(settings)


def _limits(config: Config, steps_per_epoch: int) -> dict[str, int]:
    """Return the configured limits in optimizer steps; there is at least one."""
    epochs, steps = int(config.trainer["max_epochs"]), int(config.trainer.get("max_steps", -1))
    return {
        **({"max_epochs": epochs * steps_per_epoch} if epochs != -1 else {}),
        **({"max_steps": steps} if steps != -1 else {}),
    }
