"""`kamerton train`: check what was typed, then let Hydra compose it and run it, once or for each point of a sweep."""

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

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from pydantic import TypeAdapter, ValidationError

from kamerton.assets import cache_dir, local_data
from kamerton.cli import print_faults
from kamerton.config.check import to_config
from kamerton.config.compose import ROOT, VERSION_BASE, check_overrides, conf_dir, force, plain
from kamerton.config.schema import ModelOptions
from kamerton.data.options import DataOptions, SplitOptions, check_data_options, check_split_options
from kamerton.errors import Fault, Interrupted, UserError


def train_command(arguments: Sequence[str]) -> int:
    """Everything between the command line and `train`; returns the exit code."""
    parsed = get_args_parser().parse_intermixed_args(list(arguments))
    flags = [argument for argument in arguments if argument not in parsed.overrides]
    only_asks = parsed.help or parsed.hydra_help or parsed.info or parsed.shell_completion or parsed.cfg

    def job(composed: Any) -> float | None:
        try:
            return _job(composed, parsed.config_dir)
        except (UserError, Interrupted) as error:
            raise _Ended from error

    try:
        faults = check_overrides(parsed.overrides, parsed.config_dir, None if only_asks else deep_faults)
        if faults:
            raise UserError(faults)
        with _arguments([*flags, *force(parsed.overrides)]):
            hydra.main(version_base=VERSION_BASE, config_path=str(conf_dir()), config_name=ROOT)(job)()
    except UserError as error:
        print_faults(error)
        return 2
    except _Ended as ended:
        return _say_end(ended.__cause__, arguments)
    except KeyboardInterrupt:
        print("\ninterrupted before anything was saved", file=sys.stderr)
        return 130
    except SystemExit as exit:  # Hydra has printed the traceback of a failed run
        return exit.code if isinstance(exit.code, int) else 1
    return 0


class _Ended(BaseException):
    """A run ended by the user's mistake or wish; no `Exception`, or Hydra would print it as a failure."""


def _say_end(reason: BaseException | None, arguments: Sequence[str]) -> int:
    if isinstance(reason, UserError):
        print_faults(reason)
        return 2
    words = [text for text in arguments if not text.startswith("run_id=")]
    command = shlex.join(["kamerton", "train", *words, f"run_id={reason}"])
    print(f"\ninterrupted; go on with:\n  {command}", file=sys.stderr)
    return 130


def deep_faults(values: dict[str, Any]) -> list[Fault]:
    """Faults that only a look at the data, the targets and the model's name can find; loads no weights.

    Prepared data are cached, so a run that passes does not read them twice.
    """
    from kamerton.config.targets import check_targets

    return [*_data_faults(values), *check_targets(values, values.get("allow_targets") or ()), *_model_faults(values)]


def _data_faults(values: dict[str, Any]) -> list[Fault]:
    from kamerton.data.prepare import prepare

    try:
        data = TypeAdapter(DataOptions).validate_python(values["data"])
        split = TypeAdapter(SplitOptions).validate_python(values["split"])
        if not check_data_options(data) and not check_split_options(split):
            prepare(local_data(data), split, cache=cache_dir() / "data")
    except ValidationError:
        return []  # said already
    except UserError as error:
        return list(error.faults)
    return []


def _model_faults(values: dict[str, Any]) -> list[Fault]:
    from kamerton.model.load import check_model

    try:
        model = TypeAdapter(ModelOptions).validate_python(values["model"])
    except ValidationError:
        return []
    return check_model(model.name, revision=model.revision, trust_remote_code=model.trust_remote_code)


def _job(composed: Any, config_dir: str | None) -> float | None:
    """One run, of a single command or of a sweep; its best validation loss is the sweep's objective."""
    _quiet_frameworks()
    from kamerton.train.run import train

    overrides = [text.removeprefix("++") for text in HydraConfig.get().overrides.task]
    with _ranks_rerun_this(overrides, config_dir):
        return train(to_config(plain(composed)), overrides).metrics.get("best", {}).get("loss")


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
def _ranks_rerun_this(overrides: Sequence[str], config_dir: str | None) -> Iterator[None]:
    """What Lightning starts for the other ranks: this one run, also when it is a job of a sweep.

    Lightning repeats `sys.argv`, and adds options of its own when it sees Hydra at work; so Hydra is hidden from it.
    """
    state, HydraConfig.instance().cfg = HydraConfig.instance().cfg, None
    command = [] if Path(sys.argv[0]).name == "train.py" else ["train"]
    folder = ["--config-dir", config_dir] if config_dir else []
    with _arguments([*command, *folder, *overrides]):
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
