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

from kamerton.config.check import to_config
from kamerton.config.command import Asked, Done, Point, run_command, typed
from kamerton.data.command import data_faults
from kamerton.decide.mask import mask_text
from kamerton.errors import Fault, Interrupted


def train_command(arguments: Sequence[str]) -> int:
    """Everything between the command line and `train`; returns the exit code."""

    def job(values: dict[str, Any], asked: Asked) -> Done:
        _quiet_frameworks()
        from kamerton.train.run import train

        with _ranks_rerun_this(asked):
            try:
                result = train(to_config(values), [mask_text(text) for text in asked.overrides], named=asked.named)
            except Interrupted as stopped:
                raise Interrupted(f"interrupted; go on with:\n  {_again(asked, arguments, str(stopped))}") from stopped
        return Done(result.metrics.get("best", {}).get("loss"), result.metrics.get("test", {}), result.path)

    return run_command(arguments, job, deep_faults, _summary)


def _again(asked: Asked, arguments: Sequence[str], run_id: str) -> str:
    """The command that goes on with this one run, also when it is a point of a sweep."""
    folder = [f"--config-dir={asked.config_dir}"] if asked.config_dir else []
    search = [text for text in arguments if text.lstrip("+").startswith("hydra.searchpath=")]
    words = [text for text in asked.overrides if not text.startswith("run_id=")]
    return shlex.join(["kamerton", "train", *folder, *search, *words, f"run_id={run_id}"])


def _summary(points: Sequence[Point]) -> None:
    from kamerton.train.points import say_points

    say_points(points)


def deep_faults(values: dict[str, Any]) -> list[Fault]:
    """Faults that only a look at the data, the classes and the model's name can find; loads no weights."""
    from kamerton.train.check import build_faults

    _quiet_frameworks()
    return [*data_faults(values), *build_faults(values)]


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
    import pytorch_lightning  # noqa: F401 (sets its loggers' levels when it is imported)

    os.environ.setdefault("WANDB_SILENT", "true")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
