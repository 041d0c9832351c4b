"""Build the model that a run trains, and load the weights that it trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import nn

from kamerton.config.check import section
from kamerton.config.model_options import ModelOptions
from kamerton.config.schema import Config
from kamerton.errors import Fault, RunFailed
from kamerton.model.adapter import apply_adapter
from kamerton.model.fuse import KERNELS, fuse, unfuse
from kamerton.model.load import load_model
from kamerton.model.siblings import lay_siblings_together
from kamerton.model.switches import checkpoint_layers, compile_layers
from kamerton.run.adapters import first_adapter_faults, merge_first
from kamerton.run.checkpoints import LAST, best_checkpoint, damage, read_checkpoint


def load_base(config: Config) -> Any:
    """Return the base model: with `model.adapter`, the model with that adapter merged into it."""
    model = config.model
    loaded = load_model(
        model.name,
        dtype=model.dtype,
        quantize=config.adapter.kind == "qlora",
        revision=model.revision,
        trust_remote_code=model.trust_remote_code,
        seed=config.seed,
    )
    if model.adapter is not None:
        loaded = merge_first(loaded, model.adapter)
    if config.adapter.kind == "lora" and uses_kernels(config):
        lay_siblings_together(loaded)
    return loaded


def to_train(config: Config, model: Any, kernels: int = KERNELS) -> Any:
    """Return the model with its adapter; initial adapter weights depend only on the seed.

    `kernels` is the version of their arithmetic (`fuse`).
    """
    pl.seed_everything(config.seed, verbose=False)  # again, because loading may have used random numbers
    return adapt(config, model, kernels)


def chosen_checkpoint(run: Path) -> Path:
    """Return the best checkpoint by the monitored metric, the last one without a metric.

    Raises `RunFailed` if it is missing or damaged.
    """
    checkpoints = run / "checkpoints"
    last = checkpoints / LAST
    if not last.exists():
        message, fix = "no step was trained", "check trainer.max_time and callbacks that stop training"
        raise RunFailed(Fault("train.nothing", message, fix, file=str(run)))
    path, reason = last, damage(last)
    if reason is None and (best := best_checkpoint(checkpoints).path) != last:
        path, reason = best, damage(best)
    if reason is not None:
        fix = f"delete {checkpoints} to restart this run, or give another run_id"
        raise RunFailed(Fault("checkpoint.damaged", f"{path} is damaged ({reason})", fix, file=str(path)))
    return path


def load_weights(model: Any, path: Path) -> None:
    """Load a checkpoint's weights, averaged ones if it has them, into a model of the same configuration."""
    checkpoint = read_checkpoint(path)
    state = {**checkpoint["state_dict"], **checkpoint.get("averaged", {})}
    weights = {name.removeprefix("model."): weight for name, weight in state.items()}
    unknown = model.load_state_dict(weights, strict=False).unexpected_keys
    if unknown:
        raise RuntimeError(f"{path} has weights that this model does not have: {unknown[:3]}")


def uses_kernels(config: Config) -> bool:
    """Return whether the model uses Kamerton's kernels; compiled layers use the compiler's."""
    return config.model.fused and not config.model.compile


def fixed_matmul(config: Config) -> str:
    """Return the number format of large matrix products; float32 while `auto` is undecided."""
    return "float32" if config.model.matmul == "auto" else config.model.matmul


def fuse_as_configured(model: nn.Module, config: Config) -> None:
    """Use Kamerton's kernels in a base model, or undo those that an earlier model of this process uses."""
    if uses_kernels(config):
        fuse(model, matmul=fixed_matmul(config))
    else:
        unfuse(model)


def adapt(config: Config, model: nn.Module, kernels: int = KERNELS) -> nn.Module:
    """Apply the adapter section and the model's options, and return the model to train."""
    options = dataclasses.asdict(config.adapter)
    del options["lr_ratio"]  # an option of the optimizer
    tuned = apply_adapter(model, **options)
    if uses_kernels(config):
        fuse(tuned, matmul=fixed_matmul(config), kernels=kernels)
    if config.model.gradient_checkpointing:
        checkpoint_layers(tuned)
    if config.model.compile:
        compile_layers(tuned)
    return tuned


def model_faults(values: Mapping[str, Any]) -> list[Fault]:
    """Return the faults of the model's name; none if it is missing, which another check reports."""
    from kamerton.model.load import check_model

    model = section(ModelOptions, values, "model")
    if model is None:
        return []
    faults = check_model(model.name, revision=model.revision, trust_remote_code=model.trust_remote_code)
    return faults + ([] if model.adapter is None else first_adapter_faults(model.adapter, model.name))


def tokenizer_faults(model: ModelOptions) -> list[Fault]:
    """Return a fault if the model's tokenizer cannot be loaded."""
    from kamerton.model.load import first_line, load_tokenizer

    try:
        load_tokenizer(model.name, revision=model.revision, trust_remote_code=model.trust_remote_code)
    except Exception as error:
        message = f"cannot load the tokenizer of {model.name!r}: {first_line(error)}"
        fix = "give a folder or hub name that also has a tokenizer"
        return [Fault("model.tokenizer", message, fix, column="model.name")]
    return []
