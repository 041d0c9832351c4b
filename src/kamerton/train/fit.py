"""The fit of a run: where it goes on from, Lightning's parts, and how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from rich.console import Console

from kamerton.config.schema import Config
from kamerton.console import plain_console
from kamerton.errors import Interrupted
from kamerton.model.gradients import leave_to_autograd
from kamerton.model.memory import give_back
from kamerton.run.checkpoints import newest_checkpoint, read_checkpoint
from kamerton.run.directory import RunDirectory
from kamerton.train.batches import FineTuneData
from kamerton.train.best import record_best
from kamerton.train.build import (
    build_callbacks,
    build_loggers,
    build_trainer,
    optimizer_factory,
    scheduler_factory,
)
from kamerton.train.callbacks import StopRequest
from kamerton.train.module import FineTuneModule
from kamerton.train.pruning import Pruning


def fit_model(
    config: Config,
    run: RunDirectory,
    stop: StopRequest,
    data: FineTuneData,
    model: Any,
    total_steps: int,
    pruning: Pruning | None = None,
    console: Console | None = None,
) -> None:
    """Train from the newest whole checkpoint, or from the beginning; nothing where training had ended before.

    Raises `Interrupted` when asked to stop, and `Cancelled` where `pruning` ended the run.
    """
    module = FineTuneModule(
        model,
        optimizer_factory(config),
        scheduler_factory(config),
        total_steps=total_steps,
        clip_norm=config.clip_norm,
        label_smoothing=config.label_smoothing,
        seed=config.seed,
    )
    checkpoint = _go_on_from(run)
    finished, step = (False, 0) if checkpoint is None else _stand(checkpoint, pruning)
    if run.resuming:
        text = f"resumed from step {step:,} of {total_steps:,}" if step else "resumed, with nothing saved before"
        run.event("info", "resumed.step", text)
        (console or plain_console(quiet=True)).print(text, highlight=False)
    if finished:
        _end(run, pruning)
        return
    loggers = build_loggers(config, run, step)
    callbacks = [*build_callbacks(config, run, stop, data, total_steps), *([pruning] if pruning else [])]
    trainer = build_trainer(config, run, loggers, callbacks, data.steps_per_epoch, total_steps)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as end:  # what Lightning makes of a second Ctrl-C
        if stop.requested:
            raise Interrupted from end
        raise
    finally:
        _let_go(trainer, module)
    _end(run, pruning)


def _end(run: RunDirectory, pruning: Pruning | None) -> None:
    if run.writes:
        record_best(run)
    if pruning:
        pruning.check()


def _let_go(trainer: pl.Trainer, module: FineTuneModule) -> None:
    """Free what only training needs, and the model for its last user to free.

    Trainer, module and optimizer refer to each other, and so would hold memory until Python looks for such circles.
    """
    for optimizer in trainer.optimizers:
        if isinstance(optimizer, torch.optim.Optimizer):  # DeepSpeed's own are parts of its engine
            optimizer.state.clear()
            optimizer.param_groups.clear()
    leave_to_autograd(module.model.parameters())
    del module.model
    give_back()


def _stand(checkpoint: Path, pruning: Pruning | None) -> tuple[bool, int]:
    """Whether training had ended, and after which step. Keeps nothing of the file: an open one holds disk space."""
    state = read_checkpoint(checkpoint)
    if pruning and pruning.state_key in state["callbacks"]:  # training may have ended because it was pruned
        pruning.load_state_dict(state["callbacks"][pruning.state_key])
    return bool(state.get("finished")), int(state["global_step"])


def _go_on_from(run: RunDirectory) -> Path | None:
    """The checkpoint to go on from. A damaged one is named, and the one before it used."""
    if not run.resuming:
        return None
    checkpoint, damaged = newest_checkpoint(run.checkpoints)
    for text in damaged:
        run.event("warn", "checkpoint.damaged", text, advice=f"the run goes on from {checkpoint}")
    return checkpoint
