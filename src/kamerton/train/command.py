"""`kamerton train`: check what was typed and the data it names, then train, once or for each point of a sweep."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from pydantic import TypeAdapter, ValidationError

from kamerton.config.check import to_config
from kamerton.config.command import Asked, run_command, typed
from kamerton.config.schema import ModelOptions
from kamerton.data.command import data_faults
from kamerton.errors import Fault, Interrupted


def train_command(arguments: Sequence[str]) -> int:
    """Everything between the command line and `train`; returns the exit code."""

    def job(values: dict[str, Any], asked: Asked) -> float | None:
        _quiet_frameworks()
        from kamerton.train.run import train

        with _ranks_rerun_this(asked):
            try:
                result = train(to_config(values), asked.overrides)
            except Interrupted as stopped:
                words = [text for text in arguments if not text.startswith("run_id=")]
                command = shlex.join(["kamerton", "train", *words, f"run_id={stopped}"])
                raise Interrupted(f"interrupted; go on with:\n  {command}") from stopped
        return result.metrics.get("best", {}).get("loss")

    return run_command(arguments, job, deep_faults)


def deep_faults(values: dict[str, Any]) -> list[Fault]:
    """Faults that only a look at the data, the targets and the model's name can find; loads no weights."""
    from kamerton.config.targets import check_targets

    return [*data_faults(values), *check_targets(values, values.get("allow_targets") or ()), *_model_faults(values)]


def _model_faults(values: dict[str, Any]) -> list[Fault]:
    from kamerton.model.load import check_model

    try:
        model = TypeAdapter(ModelOptions).validate_python(values["model"])
    except ValidationError:
        return []  # said already
    return check_model(model.name, revision=model.revision, trust_remote_code=model.trust_remote_code)


@contextmanager
def _ranks_rerun_this(asked: Asked) -> Iterator[None]:
    """What Lightning starts for the other ranks: this one run, also when it is a job of a sweep.

    Lightning repeats `sys.argv`, and adds options of its own when it sees Hydra at work; so Hydra is hidden from it.
    """
    command = [] if Path(sys.argv[0]).name == "train.py" else ["train"]
    folder = ["--config-dir", asked.config_dir] if asked.config_dir else []
    state, HydraConfig.instance().cfg = HydraConfig.instance().cfg, None
    with typed([*command, *folder, *asked.overrides]):
        try:
            yield
        finally:
            HydraConfig.instance().cfg = state


def _quiet_frameworks() -> None:
    """Frameworks say little: what a user must know, Kamerton says."""
    os.environ.setdefault("WANDB_SILENT", "true")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
