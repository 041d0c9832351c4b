"""From configuration nodes to Lightning objects: the one place where `train` meets the framework's constructors."""

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

from kamerton.config.schema import Config, WhenOptions
from kamerton.config.targets import instantiate
from kamerton.errors import Fault, UserError
from kamerton.mask import mask_text
from kamerton.model.switches import best_precision
from kamerton.monitor.series import Setting
from kamerton.run.directory import RunDirectory
from kamerton.run.distributed import rank_info
from kamerton.shell import as_arguments
from kamerton.train.averaging import AveragedWeights
from kamerton.train.batches import FineTuneData
from kamerton.train.callbacks import Recorder, SaveAndStop, StopRequest
from kamerton.train.checkpoints import DurableCheckpoints
from kamerton.train.ending import Ending
from kamerton.train.groups import parameter_groups, scale_rates
from kamerton.train.metrics_file import DAMAGED, MetricsFile
from kamerton.train.module import OptimizerFactory, SchedulerFactory
from kamerton.train.monitor import Monitor
from kamerton.train.restore_options import AsConfigured
from kamerton.train.schedule import schedule, warmup_length
from kamerton.train.steps import binding
from kamerton.train.validation_steps import ValidateAt, occasions

METRICS_FILE = {"_target_": "kamerton.train.metrics_file.MetricsFile"}  # always there: the report reads it


def optimizer_factory(config: Config) -> OptimizerFactory:
    """Model → optimizer of its trained parameters, in groups by weight decay and learning rate."""
    build = instantiate({**config.optimizer, "_partial_": True}, config.allow_targets)
    adapter = config.adapter

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        groups = parameter_groups(model, lr_ratio=adapter.lr_ratio, decay_adapter=adapter.init == "default")
        return scale_rates(build(groups))

    return optimizer


def scheduler_factory(config: Config) -> SchedulerFactory:
    """(optimizer, total steps) → learning-rate schedule, stepped once per optimizer step."""
    return partial(schedule, **dataclasses.asdict(config.scheduler))


def steps_between(when: WhenOptions, steps_per_epoch: int, total_steps: int) -> int:
    """An interval in optimizer steps, never longer than the run: its last step counts as an occasion.

    A share of an epoch is rounded; where validation must not be, `ValidateAt` sees to it.
    """
    steps = when.every * (steps_per_epoch if when.strategy == "epoch" else 1)
    return min(max(1, round(steps)), total_steps)


def build_loggers(config: Config, run: RunDirectory, step: int) -> list[Logger]:
    """Every logger of the configuration that is not null; `step` is where training goes on."""
    given: dict[str, dict[str, Any]] = {
        "csv": {"folder": str(run.path), "step": step},
        "wandb": wandb_arguments(config, run),
        "tensorboard": {"save_dir": str(run.path)},
    }
    loggers: list[Logger] = [
        instantiate(node, config.allow_targets, **given.get(name, {}))
        for name, node in {"csv": METRICS_FILE, **config.logger}.items()
        if node is not None
    ]
    for logger in loggers:
        if isinstance(logger, MetricsFile) and logger.damage is not None:
            message = f"metrics.csv is damaged: {logger.damage}; the run goes on without them"
            run.event(
                "warn", "metrics-damaged", message, advice=f"{DAMAGED} is the file as it was; no weight is affected"
            )
    with as_arguments([mask_text(argument) for argument in sys.argv[1:]]):  # W&B records what was typed
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                begin_logging(logger)
    return loggers


def wandb_arguments(config: Config, run: RunDirectory) -> dict[str, Any]:
    """Two runs of one configuration may have one `run_id`: W&B's own id is random, and kept for when a run goes on."""
    node = config.logger.get("wandb")
    if node is None:
        return {}
    run.update(wandb_id=run.record.get("wandb_id") or uuid4().hex)
    parent, trial = run.record.get("parent"), run.record.get("trial")  # of a fold; of a sweep
    name = node.get("name") or (f"{parent}-fold{run.run_id}" if parent else _name(run, trial))
    group = {"group": trial["study"]} if trial else {}
    return {"save_dir": str(run.path), "id": run.record["wandb_id"], "name": name, "config": _written(run), **group}


def _name(run: RunDirectory, trial: Mapping[str, Any] | None) -> str:
    """Of a sweep's runs the trial's number, and the seed or fold where a trial has several runs."""
    if trial is None:
        return run.run_id
    piece = "" if run.run_id == str(trial["number"]) else f"-{run.run_id}"
    return f"trial-{trial['number']}{piece}"


def begin_logging(logger: WandbLogger) -> None:
    import wandb

    try:
        _ = logger.experiment
    except wandb.errors.UsageError as error:
        fix = "wandb login, or set WANDB_API_KEY; logger.wandb.mode=offline needs no account"
        raise UserError([Fault("logger.wandb", str(error), fix, column="logger.wandb.mode")]) from error


def _written(run: RunDirectory) -> Any:
    """The configuration as the run directory holds it: without secrets."""
    return yaml.safe_load((run.path / "config.yaml").read_text(encoding="utf-8"))


def build_callbacks(
    config: Config, run: RunDirectory, stop: StopRequest, data: FineTuneData, total_steps: int
) -> list[Callback]:
    """The configured callbacks that are not null, and the ones that keep the run directory."""
    folder = str(run.checkpoints)
    every = steps_between(config.save, data.steps_per_epoch, total_steps)
    given: dict[str, dict[str, Any]] = {
        "checkpoint_best": {"dirpath": folder},
        "checkpoint_last": {"dirpath": folder, "every_n_train_steps": every},
        "throughput": {"run": run},
    }
    named = {
        name: instantiate(node, config.allow_targets, **given.get(name, {}))
        for name, node in config.callbacks.items()
        if node is not None
    }
    if data.validation is None:
        named = {name: callback for name, callback in named.items() if not _needs_validation(callback)}
        run.event("warn", "no-validation", "there is no validation split: no early stopping, no best checkpoint")
    callbacks = list(named.values())
    epochs, rest = divmod(total_steps, data.steps_per_epoch)  # an epoch's last step may be shorter than the others
    examples = epochs * len(data.train) + rest * data.train_batch_size
    recorder = Recorder(run, total_steps, data.steps_per_epoch, examples, _keeper(named))
    # First: what is logged as a step begins belongs to the new step, not to the checkpoint of the one before.
    stopper = SaveAndStop(stop, run.checkpoints, total_steps)
    configured = AsConfigured(optimizer_factory(config), run.checkpoints)
    shares = _validate_at(config.eval.every, data.steps_per_epoch, total_steps)
    warmup = warmup_length(total_steps, config.scheduler.warmup_steps, config.scheduler.warmup_ratio)
    setting = Setting(total_steps, config.clip_norm, warmup)
    monitor = Monitor(run, setting, config.monitor.ignore, config.monitor.stop_on)
    ending = Ending(run, total_steps, binding(config, data.steps_per_epoch))
    return [ending, stopper, *shares, configured, *_averaging(config), *callbacks, monitor, recorder]


def _keeper(callbacks: Mapping[str, Callback]) -> ModelCheckpoint | None:
    """What chooses the weights that the run keeps: `checkpoint_best`, else the first one that monitors a metric."""
    found = {name: one for name, one in callbacks.items() if isinstance(one, ModelCheckpoint)}
    monitoring = (one for one in found.values() if one.monitor is not None)
    return found.get("checkpoint_best") or next(monitoring, None)


def _validate_at(every: float, steps_per_epoch: int, total_steps: int) -> list[Callback]:
    return [ValidateAt(occasions(every, steps_per_epoch, total_steps))] if every < 1 else []


def _averaging(config: Config) -> list[Callback]:
    if config.ema_decay is not None:
        return [AveragedWeights(config.ema_decay)]
    return [AveragedWeights()] if str(config.optimizer["_target_"]).startswith("schedulefree.") else []


def _launched() -> dict[str, int]:
    here = rank_info()
    return {"devices": here.devices, "num_nodes": here.nodes} if here.launcher else {}


def _needs_validation(callback: Callback) -> bool:
    watches = isinstance(callback, EarlyStopping | ModelCheckpoint)
    return watches and str(getattr(callback, "monitor", "")).startswith("val/")


def trainer_node(node: Mapping[str, Any], callbacks: Sequence[Callback]) -> dict[str, Any]:
    """The trainer's arguments: a progress bar and checkpoints only where a callback makes them.

    Where torchrun or SLURM started the processes, there are as many devices and nodes as they say.
    """
    return {
        "enable_progress_bar": any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks),
        "enable_checkpointing": any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        **node,
        **_launched(),
    }


def build_trainer(
    config: Config,
    run: RunDirectory,
    loggers: Sequence[Logger],
    callbacks: Sequence[Callback],
    steps_per_epoch: int,
    total_steps: int,
) -> pl.Trainer:
    """Lightning's trainer, counting validation in optimizer steps whatever the strategy."""
    node = trainer_node(config.trainer, callbacks)
    if node["max_epochs"] == -1:  # max_steps decides: the epochs that it needs
        node["max_epochs"] = -(-total_steps // steps_per_epoch)
    node.pop("limit_train_batches", None)  # the data are cut to it
    plugins = [instantiate(plugin, config.allow_targets) for plugin in node.pop("plugins", None) or []]
    if node.get("precision") is None:
        node["precision"] = "32-true" if node.get("accelerator") == "cpu" else best_precision()
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
    # Batches are token ids, and weights of a loss in float32: no precision of the model is theirs.
    trainer.precision_plugin.convert_input = lambda data: data  # type: ignore[method-assign]
    return trainer
