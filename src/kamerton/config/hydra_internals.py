"""Every private part of Hydra and OmegaConf that Kamerton uses: the one file to check against a new version of either.

(`hydra_plugins` has its own, since it may not import this package.)
"""

from __future__ import annotations

import argparse
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import _run_hydra, create_config_search_path, get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobRuntime, configure_log, run_job
from hydra.plugins.config_source import ConfigResult
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_yaml_loader, split_key
from yaml.constructor import SafeConstructor
from yaml.cyaml import CParser  # type: ignore[attr-defined]
from yaml.resolver import Resolver

__all__ = [
    "VERSION_BASE",
    "ConfigLoaderImpl",
    "create_config_search_path",
    "get_args_parser",
    "run_hydra",
    "run_single",
    "searched_repository",
    "set_values",
    "spare_copies",
    "split_key",
    "written_value",
]

VERSION_BASE = "1.3"
Task = Callable[[Any], Any]


def run_hydra(flags: argparse.Namespace, task: Task, conf: str, root: str) -> None:
    """Do what `hydra.main` does for these parsed flags: show help, a configuration or completions, or run a sweep.

    Raises what fails, instead of printing it.
    """
    version.setbase(VERSION_BASE)
    with _raising():
        _run_hydra(args=flags, args_parser=get_args_parser(), task_function=task, config_path=conf, config_name=root)


def run_single(config: DictConfig, loader: ConfigLoaderImpl, task: Task, root: str) -> Any:
    """Run `task` once for a composed configuration, as `hydra.main` runs a single job, and return its value.

    Logging, output directory, environment, `HydraConfig` and callbacks are Hydra's; only the second composition is
    left out. Raises what the task raises.
    """
    if config.hydra.mode is None:
        config.hydra.mode = RunMode.RUN
    JobRuntime.instance().set("name", root)
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    callbacks = Callbacks(config)
    callbacks.on_run_start(config=config, config_name=root)
    done = run_job(
        hydra_context=HydraContext(config_loader=loader, callbacks=callbacks),
        task_function=task,
        config=config,
        job_dir_key="hydra.run.dir",
        job_subdir_key=None,
    )
    callbacks.on_run_end(config=config, config_name=root, job_return=done)
    return done.return_value


def searched_repository(loader: ConfigLoaderImpl, root: str, overrides: list[str]) -> Any:
    """The repository of configuration files that a composition reads, with the places its overrides name."""
    _, repository = loader._parse_overrides_and_create_caching_repo(root, overrides)
    return repository


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


class _Loader(CParser, get_yaml_loader()):  # type: ignore[misc]
    """OmegaConf's loader of YAML, parsing in C."""

    def __init__(self, text: str) -> None:
        CParser.__init__(self, text)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)


class _Files(FileConfigSource):
    """Hydra's source of files, which parses a text once a process: Hydra parses each several times a composition.

    Shipped files are parsed in C, whose messages are less clear.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        try:
            text = Path(self.path, self._normalize_file_name(config_path)).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return super().load_config(config_path)  # raises
        key = (self.provider, self.path, config_path, text)
        if key not in _parsed:
            if self.provider == "main":
                config, path = OmegaConf.create(yaml.load(text, _Loader) or {}), f"{self.scheme()}://{self.path}"
                parsed = ConfigResult(self.provider, path, config, self._get_header_dict(text[:512]))
            else:
                parsed = super().load_config(config_path)
            _parsed[key] = pickle.dumps(parsed)
        result: ConfigResult = pickle.loads(_parsed[key])  # Hydra changes it
        return result


_parsed: dict[tuple[str, ...], bytes] = {}


def spare_copies() -> None:
    """Make Hydra read files by `_Files`, and not copy its store of dataclasses; its plugins must be registered."""
    SourcesRegistry.instance().types["file"] = _Files
    setattr(ConfigStore, "__deepcopy__", lambda self, memo: self)  # noqa: B010 (what is loaded from it is copied)


def written_value(section: Any, key: Any) -> Any:
    """The value of an OmegaConf section as it is written, with its interpolations."""
    return section._get_node(key)._value()


@contextmanager
def _raising() -> Iterator[None]:
    """Hydra prints an exception and exits, unless this variable is set."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        os.environ.pop("HYDRA_FULL_ERROR")
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before
