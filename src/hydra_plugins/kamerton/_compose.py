"""Compose the jobs of a sweep from one composition: most of them differ in values only, which Hydra sets last."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from hydra_plugins.kamerton._config import typed
from hydra_plugins.kamerton._internals import ConfigLoaderImpl, set_values

SEARCHPATH = "hydra.searchpath"
_KEPT = 64  # compositions


class SweepLoader(ConfigLoaderImpl):
    """Composes as Hydra does, but what the jobs of a sweep have in common once; files are not read again for each."""

    def __init__(self, config_search_path: Any) -> None:
        super().__init__(config_search_path)
        self._compositions: dict[tuple[str, ...], bytes | None] = {}
        self._files: Any = None

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Return the configuration of a job, as Hydra composes it from the sweep's and the job's overrides."""
        try:
            config = self._from_common(master_config, sweep_overrides)
        except Exception:  # whatever is wrong, Hydra reports it
            config = None
        if config is None:
            return super().load_sweep_config(master_config, sweep_overrides)
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    def _from_common(self, master: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig | None:
        """Set the job's values in a copy of what its options compose; None if only Hydra can compose it."""
        name: str | None = master.hydra.job.config_name
        shared = typed(master, "hydra")
        overrides = [_parsed(text) for text in (*shared, *sweep_overrides)]
        changes_files = any(override.key_or_group == SEARCHPATH for override in overrides[len(shared) :])
        if changes_files or any(override.is_sweep_override() for override in overrides):
            return None
        if self._files is None:
            _, self._files = self._parse_overrides_and_create_caching_repo(name, shared)
        values: list[Override] = []
        common: list[str] = []
        for override in overrides:
            if _is_set_last(override, self._files):
                values.append(override)
            else:
                common.append(str(override.input_line))
        composed = self._composition(name, tuple(common))
        if composed is None:
            return None
        config: DictConfig = pickle.loads(composed)
        set_values(config, values, overrides)
        with open_dict(config.hydra):
            for variable in config.hydra.job.env_copy:
                config.hydra.job.env_set[variable] = os.environ[variable]
        return config

    def _composition(self, name: str | None, overrides: tuple[str, ...]) -> bytes | None:
        """Return what Hydra composes, pickled; None if that is not possible."""
        key = (str(name), *overrides)
        if key not in self._compositions:
            if len(self._compositions) == _KEPT:
                self._compositions.clear()
            self._compositions[key] = None
            config = self.load_configuration(name, list(overrides), RunMode.RUN)
            OmegaConf.clear_cache(config)  # of the current time
            self._compositions[key] = pickle.dumps(config)
        return self._compositions[key]


@lru_cache(maxsize=512)
def _parsed(text: str) -> Override:
    return OverridesParser.create().parse_overrides([text])[0]


def _is_set_last(override: Override, files: Any) -> bool:
    """Whether an override sets a value of the application, which has no part in how the rest is composed."""
    key = override.key_or_group
    is_option = files.group_exists(key) and not isinstance(override.value(), dict)
    return not is_option and key.partition(".")[0] != "hydra"


def composing_once(context: HydraContext) -> HydraContext:
    """Return the context with a loader that composes once; a loader of another kind is left as it is."""
    loader: ConfigLoader = context.config_loader
    if type(loader) is ConfigLoaderImpl:
        return HydraContext(SweepLoader(loader.config_search_path), context.callbacks)
    return context
