"""From a configuration and a checkpoint to a model: what a run trains, and what it trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from kamerton.config.schema import Config
from kamerton.errors import Fault, RunFailed
from kamerton.model.load import load_model
from kamerton.train.build import adapt
from kamerton.train.checkpoints import LAST, best_checkpoint, damage, read_checkpoint


def load_base(config: Config) -> Any:
    """The untouched model."""
    model = config.model
    return load_model(
        model.name,
        dtype=model.dtype,
        quantize=config.adapter.kind == "qlora",
        revision=model.revision,
        trust_remote_code=model.trust_remote_code,
        seed=config.seed,
    )


def to_train(config: Config, model: Any) -> Any:
    """The model with what is trained on it; its first weights depend on the seed alone."""
    pl.seed_everything(config.seed, verbose=False)  # again: how the model was loaded must not matter
    return adapt(config, model)


def chosen_checkpoint(run: Path) -> Path:
    """The one that was best by the monitored metric, the last one where nothing was validated. Raises `RunFailed`."""
    checkpoints = run / "checkpoints"
    last = checkpoints / LAST
    if not last.exists():
        message, fix = "no step was trained", "look at trainer.max_time, and at callbacks that end a run"
        raise RunFailed(Fault("train.nothing", message, fix, file=str(run)))
    path, reason = last, damage(last)
    if reason is None and (best := best_checkpoint(checkpoints).path) != last:
        path, reason = best, damage(best)
    if reason is not None:
        fix = f"delete {checkpoints} to start this run from its beginning, or give another run_id"
        raise RunFailed(Fault("checkpoint.damaged", f"{path} is damaged ({reason})", fix, file=str(path)))
    return path


def load_weights(model: Any, path: Path) -> None:
    """Put a checkpoint's weights, averaged ones where it has them, into the model that it was made from."""
    checkpoint = read_checkpoint(path)
    state = {**checkpoint["state_dict"], **checkpoint.get("averaged", {})}
    weights = {name.removeprefix("model."): weight for name, weight in state.items()}
    unknown = model.load_state_dict(weights, strict=False).unexpected_keys
    if unknown:
        raise RuntimeError(f"{path} holds weights that this model does not have: {unknown[:3]}")
