"""Build Lightning's loggers, callbacks and trainer from the nodes of a configuration."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.strategies import DDPStrategy
from torch import nn

from kamerton.config.schema import Config, EvalOptions, WhenOptions
from kamerton.config.targets import instantiate
from kamerton.errors import Fault, UserError
from kamerton.mask import mask_text
from kamerton.model.switches import precision_of
from kamerton.monitor.series import Setting
from kamerton.run.directory import RunDirectory
from kamerton.run.distributed import rank_info
from kamerton.shell import as_arguments
from kamerton.train.averaging import AveragedWeights
from kamerton.train.callbacks import Recorder, SaveAndStop, StopRequest
from kamerton.train.callbacks.ending import Ending
from kamerton.train.callbacks.monitor import Monitor
from kamerton.train.callbacks.restore_options import RestoreOptions
from kamerton.train.callbacks.scoring import Scorer, ScoreValidation
from kamerton.train.callbacks.validation_steps import ValidateAt, validation_steps
from kamerton.train.checkpoints import DurableCheckpoints
from kamerton.train.data_module import FineTuneData
from kamerton.train.groups import parameter_groups, scale_rates
from kamerton.train.metrics_file import DAMAGED, MetricsFile
from kamerton.train.module import OptimizerFactory, SchedulerFactory
from kamerton.train.schedule import schedule, warmup_length
from kamerton.train.steps import binding_limit

METRICS_FILE = {"_target_": "kamerton.train.metrics_file.MetricsFile"}  # always there: the report reads it


def optimizer_factory(config: Config) -> OptimizerFactory:
    """Return a function that builds the configured optimizer of a model's trained parameters, grouped by options."""
    build = instantiate({**config.optimizer, "_partial_": True}, config.allow_targets)
    adapter = config.adapter

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        groups = parameter_groups(model, lr_ratio=adapter.lr_ratio, decay_adapter=adapter.init == "default")
        return scale_rates(build(groups))

    return optimizer


def scheduler_factory(config: Config) -> SchedulerFactory:
    """Return a function of (optimizer, total steps) that builds the schedule, stepped once per optimizer step."""
    return partial(schedule, **dataclasses.asdict(config.scheduler))


def steps_between(when: WhenOptions | EvalOptions, steps_per_epoch: int, total_steps: int) -> int:
    """Return an interval in optimizer steps, at most the length of the run.

    A share of an epoch is rounded to whole steps; `ValidateAt` places validations exactly.
    """
    steps = when.every * (steps_per_epoch if when.strategy == "epoch" else 1)
    return min(max(1, round(steps)), total_steps)


def count_validations(when: EvalOptions, steps_per_epoch: int, total_steps: int) -> int:
    """Return how many validations a run has that trains to its last step."""
    if when.every < 1:
        return len(validation_steps(when.every, steps_per_epoch, total_steps))
    return total_steps // steps_between(when, steps_per_epoch, total_steps)


def build_loggers(config: Config, run: RunDirectory, step: int) -> list[Logger]:
    """Build every logger of the configuration that is not null; training continues after `step`."""
    arguments: dict[str, dict[str, Any]] = {
        "csv": {"folder": str(run.path), "step": step},
        "wandb": wandb_arguments(config, run),
        "tensorboard": {"save_dir": str(run.path)},
    }
    loggers: list[Logger] = [
        instantiate(node, config.allow_targets, **arguments.get(name, {}))
        for name, node in {"csv": METRICS_FILE, **config.logger}.items()
        if node is not None
    ]
    for logger in loggers:
        if isinstance(logger, MetricsFile) and logger.damage is not None:
            message = f"metrics.csv is damaged: {logger.damage}; the run continues without them"
            run.event(
                "warn", "metrics-damaged", message, advice=f"{DAMAGED} is the file as it was; no weight is affected"
            )
    with as_arguments([mask_text(argument) for argument in sys.argv[1:]]):  # W&B records the command line
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                start_wandb(logger)
    return loggers


def wandb_arguments(config: Config, run: RunDirectory) -> dict[str, Any]:
    """Return the arguments of the W&B logger that the run decides; empty without that logger.

    Two runs may share a `run_id`, so W&B's id is random, and recorded for resuming.
    """
    node = config.logger.get("wandb")
    if node is None:
        return {}
    record = run.record
    wandb_id, parent, trial = record.wandb_id or uuid4().hex, record.parent, record.trial  # of a fold; of a trial
    run.update(wandb_id=wandb_id)
    if parent:
        name = f"{parent}-fold{run.run_id}"
    elif trial is None:
        name = run.run_id
    else:  # a trial of several runs adds the seed or fold
        name = f"trial-{trial.number}" + ("" if run.run_id == str(trial.number) else f"-{run.run_id}")
    return {
        "save_dir": str(run.path),
        "id": wandb_id,
        "name": node.get("name") or name,
        "config": yaml.safe_load((run.path / "config.yaml").read_text(encoding="utf-8")),  # without secrets
        **({"group": trial.study} if trial else {}),
    }


def start_wandb(logger: WandbLogger) -> None:
    """Start the logger's W&B run. Raises `UserError` if no account is configured."""
    import wandb

    try:
        _ = logger.experiment
    except wandb.errors.UsageError as error:
        fix = "wandb login, or set WANDB_API_KEY; logger.wandb.mode=offline needs no account"
        raise UserError([Fault("logger.wandb", str(error), fix, column="logger.wandb.mode")]) from error


def build_callbacks(
    config: Config,
    run: RunDirectory,
    stop: StopRequest,
    data: FineTuneData,
    total_steps: int,
    score: Scorer | None = None,
) -> list[Callback]:
    """Build the configured callbacks that are not null, and those that keep the run directory up to date."""
    folder = str(run.checkpoints)
    save_every = steps_between(config.save, data.steps_per_epoch, total_steps)
    arguments: dict[str, dict[str, Any]] = {
        "checkpoint_best": {"dirpath": folder},
        "checkpoint_last": {"dirpath": folder, "every_n_train_steps": save_every},
        "throughput": {"run": run},
    }
    configured = {
        name: instantiate(node, config.allow_targets, **arguments.get(name, {}))
        for name, node in config.callbacks.items()
        if node is not None
    }
    if data.validation is None:
        configured = {
            name: callback
            for name, callback in configured.items()
            if not isinstance(callback, EarlyStopping | ModelCheckpoint)
            or not str(getattr(callback, "monitor", "")).startswith("val/")
        }
        run.event("warn", "no-validation", "there is no validation split: no early stopping, no best checkpoint")
    epochs, rest = divmod(total_steps, data.steps_per_epoch)  # an epoch's last step may be shorter than the others
    examples = epochs * data.examples + rest * data.train_batch_size
    recorder = Recorder(run, total_steps, data.steps_per_epoch, examples, _keeper(configured))
    stopper = SaveAndStop(stop, run.checkpoints, total_steps)
    restore = RestoreOptions(optimizer_factory(config), run.checkpoints)
    every = config.eval.every
    at_shares = [ValidateAt(validation_steps(every, data.steps_per_epoch, total_steps))] if every < 1 else []
    scoring = [ScoreValidation(score, stopper.stop_validation)] if score else []
    schedule_free = str(config.optimizer["_target_"]).startswith("schedulefree.")
    averaging = [AveragedWeights(config.ema_decay)] if config.ema_decay is not None or schedule_free else []
    warmup = warmup_length(total_steps, config.scheduler.warmup_steps, config.scheduler.warmup_ratio)
    setting = Setting(total_steps, config.clip_norm, warmup, config.objective.name)
    monitor = Monitor(run, setting, config.monitor.ignore, config.monitor.stop_on)
    ending = Ending(run, total_steps, binding_limit(config, data.steps_per_epoch))
    # `stopper` comes early: values logged as a step begins belong to that step, not to the checkpoint saved before it.
    return [ending, stopper, *at_shares, restore, *scoring, *averaging, *configured.values(), monitor, recorder]


def _keeper(callbacks: Mapping[str, Callback]) -> ModelCheckpoint | None:
    """Return the callback that chooses the kept weights: `checkpoint_best`, else the first that monitors a metric."""
    checkpoints = {name: callback for name, callback in callbacks.items() if isinstance(callback, ModelCheckpoint)}
    monitoring = (callback for callback in checkpoints.values() if callback.monitor is not None)
    return checkpoints.get("checkpoint_best") or next(monitoring, None)


def trainer_node(node: Mapping[str, Any], callbacks: Sequence[Callback]) -> dict[str, Any]:
    """Return the trainer's arguments, with progress bar and checkpoints enabled only if a callback provides them.

    If torchrun or SLURM started the processes, the numbers of devices and nodes come from it.
    """
    launch = rank_info()
    return {
        "enable_progress_bar": any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks),
        "enable_checkpointing": any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        **node,
        **({"devices": launch.devices, "num_nodes": launch.nodes} if launch.launcher else {}),
    }


def build_trainer(
    config: Config,
    run: RunDirectory,
    loggers: Sequence[Logger],
    callbacks: Sequence[Callback],
    steps_per_epoch: int,
    total_steps: int,
) -> pl.Trainer:
    """Build Lightning's trainer, with the validation interval in optimizer steps."""
    node = trainer_node(config.trainer, callbacks)
    if node["max_epochs"] == -1:  # as many epochs as max_steps needs
        node["max_epochs"] = -(-total_steps // steps_per_epoch)
    node.pop("limit_train_batches", None)  # `limit_train_batches` in steps.py has reduced the data
    plugins = [instantiate(plugin, config.allow_targets) for plugin in node.pop("plugins", None) or []]
    node["precision"] = precision_of(node)
    if rank_info().world_size > 1 and node.get("strategy", "auto") == "auto":
        node["strategy"] = DDPStrategy(broadcast_buffers=False)  # as in conf/trainer/ddp.yaml
    trainer: pl.Trainer = instantiate(
        node,
        config.allow_targets,
        callbacks=list(callbacks),
        logger=list(loggers),
        default_root_dir=str(run.path),
        val_check_interval=steps_between(config.eval, steps_per_epoch, total_steps),
        check_val_every_n_epoch=None,
        plugins=[*plugins, DurableCheckpoints()],
    )
    # Batches are token ids and float32 loss weights; neither is converted to the model's precision.
    trainer.precision_plugin.convert_input = lambda data: data  # type: ignore[method-assign]
    return trainer
