"""Fit a run: find the checkpoint to resume from, build Lightning's parts, train, and record the best checkpoint."""

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
from kamerton.model.memory import release_memory
from kamerton.run.checkpoints import newest_checkpoint, read_checkpoint
from kamerton.run.directory import RunDirectory
from kamerton.train.build import (
    build_callbacks,
    build_loggers,
    build_trainer,
    optimizer_factory,
    scheduler_factory,
)
from kamerton.train.callbacks import StopRequest
from kamerton.train.callbacks.pruning import Pruning
from kamerton.train.callbacks.recorder import record_best
from kamerton.train.callbacks.scoring import Scorer
from kamerton.train.data_module import FineTuneData
from kamerton.train.module import FineTuneModule
from kamerton.train.objectives.build import build_objective
from kamerton.train.rollouts import RollOut


def fit_model(  # noqa: PLR0913 - by keyword
    config: Config,
    run: RunDirectory,
    stop: StopRequest,
    data: FineTuneData,
    model: Any,
    total_steps: int,
    *,
    pruning: Pruning | None = None,
    score: Scorer | None = None,
    roll_out: RollOut | None = None,
    console: Console | None = None,
) -> None:
    """Train from the newest intact checkpoint, or from the start; skip training that has already finished.

    `score` returns further metrics for each validation; `roll_out` generates and grades the completions of a step.
    Raises `Interrupted` after a stop request, and `Cancelled` if `pruning` ended the run.
    """
    module = FineTuneModule(
        model,
        optimizer_factory(config),
        scheduler_factory(config),
        total_steps=total_steps,
        clip_norm=config.clip_norm,
        label_smoothing=config.label_smoothing,
        seed=config.seed,
        objective=build_objective(config.objective, data, roll_out, initial_weights(config, model)),
    )
    checkpoint, finished, step = None, False, 0
    if run.resuming:
        checkpoint, damaged = newest_checkpoint(run.checkpoints)
        for text in damaged:
            run.event("warn", "checkpoint.damaged", text, advice=f"the run resumes from {checkpoint}")
        if checkpoint is not None:
            finished, step = _training_state(checkpoint, pruning)
        text = f"resumed from step {step:,} of {total_steps:,}" if step else "resumed, with nothing saved before"
        run.event("info", "resumed.step", text)
        (console or plain_console(quiet=True)).print(text, highlight=False)
    if finished:
        _end(run, pruning)
        return
    loggers = build_loggers(config, run, step)
    callbacks = [*build_callbacks(config, run, stop, data, total_steps, score), *([pruning] if pruning else [])]
    trainer = build_trainer(config, run, loggers, callbacks, data.steps_per_epoch, total_steps)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as error:  # Lightning raises it after a second Ctrl-C
        if stop.requested:
            raise Interrupted from error
        raise
    finally:
        _free_memory(trainer, module)
    _end(run, pruning)


def initial_weights(config: Config, model: Any) -> dict[str, torch.Tensor] | None:
    """Return a copy of the weights before training if the objective needs it: `model` has no adapter to leave out.

    A resumed run calls this before its checkpoint is loaded.
    """
    if not config.keeps_initial:
        return None
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}


def _end(run: RunDirectory, pruning: Pruning | None) -> None:
    if run.writes:
        record_best(run)
    if pruning:
        pruning.check()


def _free_memory(trainer: pl.Trainer, module: FineTuneModule) -> None:
    """Drop optimizer state and the module's reference to the model, so that the model can be freed by its last user.

    Trainer, module and optimizer refer to each other, and would hold memory until Python's cycle collector runs.
    """
    for optimizer in trainer.optimizers:
        if isinstance(optimizer, torch.optim.Optimizer):  # DeepSpeed's optimizers belong to its engine
            optimizer.state.clear()
            optimizer.param_groups.clear()
    leave_to_autograd(module.model.parameters())
    del module.model, module.objective
    release_memory()


def _training_state(checkpoint: Path, pruning: Pruning | None) -> tuple[bool, int]:
    """Return (finished, step) of a checkpoint; a function, so that no reference to the mapped file remains."""
    state = read_checkpoint(checkpoint)
    if pruning and pruning.state_key in state["callbacks"]:  # training may have finished because it was pruned
        pruning.load_state_dict(state["callbacks"][pruning.state_key])
    return bool(state.get("finished")), int(state["global_step"])
