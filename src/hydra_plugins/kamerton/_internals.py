"""Every private part of Hydra and OmegaConf that the plugins use: the file to check against a new version of either."""

from __future__ import annotations

import os
from collections.abc import Sequence

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.grammar import grammar_functions
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig
from omegaconf._utils import get_omega_conf_dumper

__all__ = ["ConfigLoaderImpl", "get_args_parser", "get_omega_conf_dumper", "grammar_functions", "set_values"]


def set_values(config: DictConfig, values: Sequence[Override], overrides: Sequence[Override]) -> None:
    """Set values in a composed configuration, and note all `overrides` in its section `hydra` as Hydra does."""
    ConfigLoaderImpl._apply_overrides_to_config(list(values), config)
    job, noted = config.hydra.job, config.hydra.overrides
    own = [override for override in overrides if not override.is_hydra_override()]
    noted.task = [override.input_line for override in own]
    noted.hydra = [override.input_line for override in overrides if override.is_hydra_override()]
    names = job.config.override_dirname
    job.override_dirname = get_overrides_dirname(own, names.exclude_keys, names.item_sep, names.kv_sep)
    config.hydra.runtime.cwd = os.getcwd()
