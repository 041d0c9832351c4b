"""`kamerton train`: check what was typed, then let Hydra compose it and run it, once or for each point of a sweep."""

from __future__ import annotations

import dataclasses
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig

from kamerton.assets import local_data
from kamerton.config.check import to_config
from kamerton.config.compose import ROOT, VERSION_BASE, check_overrides, conf_dir, force, plain, with_origins
from kamerton.errors import Fault, Interrupted, UserError

if TYPE_CHECKING:
    from kamerton.config.schema import Config


def train_command(arguments: Sequence[str]) -> int:
    """Everything between the command line and `train`; returns the exit code."""
    from kamerton.cli import print_faults

    parsed = get_args_parser().parse_args(list(arguments))
    flags = [argument for argument in arguments if argument not in parsed.overrides]
    asks_only = parsed.help or parsed.hydra_help or parsed.info or parsed.shell_completion or parsed.cfg
    try:
        faults = check_overrides(parsed.overrides, parsed.config_dir)
        if faults and not asks_only and parsed.run is not False:
            faults += _deep_faults(parsed.overrides, faults)
        if faults:
            raise UserError(faults)
        with _arguments([*flags, *force(parsed.overrides)]):
            hydra.main(version_base=VERSION_BASE, config_path=str(conf_dir()), config_name=ROOT)(_job)()
    except UserError as error:
        print_faults(error)
        return 2
    except Interrupted as error:
        words = [text for text in arguments if not text.startswith("run_id=")]
        print(
            f"\ninterrupted; go on with:\n  kamerton train {shlex.join([*words, f'run_id={error}'])}",
            file=sys.stderr,
        )
        return 130
    except KeyboardInterrupt:
        print("\ninterrupted before anything was saved", file=sys.stderr)
        return 130
    return 0


def _job(composed: Any) -> Any:
    """One run of a single command or of a sweep."""
    config = to_config(plain(composed))
    overrides = [text.removeprefix("++") for text in HydraConfig.get().overrides.task]
    faults = with_origins(run_faults(config), overrides)
    if faults:
        raise UserError(faults)
    _quiet_frameworks()
    from kamerton.train.run import train

    with _ranks_rerun_this(config, overrides):
        return train(config, overrides).metrics.get("best", {}).get("loss")


def run_faults(config: Config) -> list[Fault]:
    """Faults that only a look at the files, the targets and the model's name can find; loads no weights."""
    from kamerton.config.targets import check_targets
    from kamerton.model.load import check_model

    model = config.model
    return [
        *_data_faults(config),
        *check_targets(dataclasses.asdict(config), config.allow_targets),
        *check_model(model.name, revision=model.revision, trust_remote_code=model.trust_remote_code),
    ]


def _data_faults(config: Config) -> list[Fault]:
    from kamerton.data.prepare import check_files

    try:
        return check_files(local_data(config.data))
    except UserError as error:
        return list(error.faults)


def _deep_faults(overrides: Sequence[str], known: Sequence[Fault]) -> list[Fault]:
    return []


@contextmanager
def _arguments(arguments: Sequence[str]) -> Iterator[None]:
    """Hydra reads `sys.argv`."""
    before = sys.argv
    sys.argv = [before[0], *arguments]
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def _ranks_rerun_this(config: Config, overrides: Sequence[str]) -> Iterator[None]:
    yield


def _quiet_frameworks() -> None:
    """Frameworks say little: what a user must know, Kamerton says."""
    os.environ.setdefault("WANDB_SILENT", "true")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
