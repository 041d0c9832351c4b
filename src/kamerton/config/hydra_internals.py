"""Every private part of Hydra and OmegaConf that Kamerton uses: the one file to check against a new version of either.

(`hydra_plugins` has its own, since it may not import this package.)
"""

from __future__ import annotations

import argparse
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import hydra._internal.hydra
import yaml
from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.utils import _run_hydra, create_config_search_path, get_args_parser
from hydra.core.utils import JobRuntime, configure_log, run_job
from hydra.plugins.config_source import ConfigResult
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_yaml_loader, split_key
from yaml.constructor import SafeConstructor
from yaml.cyaml import CParser  # type: ignore[attr-defined]
from yaml.resolver import Resolver

from hydra_plugins.kamerton._compose import SweepLoader
from hydra_plugins.kamerton._internals import set_values

__all__ = [
    "VERSION_BASE",
    "ConfigLoaderImpl",
    "Loader",
    "create_config_search_path",
    "get_args_parser",
    "own_loader",
    "run_hydra",
    "run_single",
    "searched_repository",
    "set_values",
    "split_key",
    "written_value",
]

VERSION_BASE = "1.3"
Task = Callable[[Any], Any]
Load = Callable[[str], ConfigResult]


def run_hydra(flags: argparse.Namespace, task: Task, conf: str, root: str) -> None:
    """Do what `hydra.main` does for these parsed flags: show help, a configuration or completions, or run a sweep.

    Raises what fails, instead of printing it.
    """
    version.setbase(VERSION_BASE)
    with _raising(), own_loader():
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


class _Loader(CParser, get_yaml_loader()):  # type: ignore[misc]
    """OmegaConf's loader of YAML, parsing in C."""

    def __init__(self, text: str) -> None:
        CParser.__init__(self, text)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)


_parsed: dict[tuple[str, ...], bytes] = {}


class Loader(SweepLoader):
    """Hydra's loader, but a text is parsed once a process, instead of several times a composition."""

    def __init__(self, config_search_path: Any) -> None:
        super().__init__(config_search_path)
        self.repository = _Repository(config_search_path)


class _Repository(ConfigRepository):
    def initialize_sources(self, config_search_path: Any) -> None:
        super().initialize_sources(config_search_path)
        for source in self.sources:
            load = {"file": _file, "pkg": _packaged}.get(source.scheme())
            if load is not None:  # a source of Hydra's; the class is another one after each scan of its plugins
                setattr(source, "load_config", partial(load, source, source.load_config))  # noqa: B010 (a method)

    def __deepcopy__(self, memo: Any) -> _Repository:
        copied = copy(self)  # what Hydra changes of its copy is which sources it has
        copied.sources = list(self.sources)
        return copied


def _file(source: Any, load_file: Load, config_path: str) -> ConfigResult:
    """A file as Hydra reads it; shipped ones are parsed in C, whose messages are less clear."""
    try:
        text = Path(source.path, source._normalize_file_name(config_path)).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return load_file(config_path)  # raises

    def load() -> ConfigResult:
        if source.provider != "main":
            return load_file(config_path)
        config, path = OmegaConf.create(yaml.load(text, _Loader) or {}), f"{source.scheme()}://{source.path}"
        return ConfigResult(source.provider, path, config, source._get_header_dict(text[:512]))

    return _once((source.provider, source.path, config_path, text), load)


def _packaged(source: Any, load_packaged: Load, config_path: str) -> ConfigResult:
    """A file in a package; Hydra's own are parsed once."""
    load = partial(load_packaged, config_path)
    return _once((source.provider, source.path, config_path), load) if source.path.startswith("hydra.") else load()


def _once(key: tuple[str, ...], load: Callable[[], ConfigResult]) -> ConfigResult:
    if key not in _parsed:
        _parsed[key] = pickle.dumps(load())
    result: ConfigResult = pickle.loads(_parsed[key])  # a copy, since Hydra changes it
    return result


def written_value(section: Any, key: Any) -> Any:
    """The value of an OmegaConf section as it is written, with its interpolations."""
    return section._get_node(key)._value()


@contextmanager
def own_loader() -> Iterator[None]:
    """Hydra makes its loader itself; inside, it makes a `Loader`."""
    setattr(hydra._internal.hydra, "ConfigLoaderImpl", Loader)  # noqa: B010 (mypy refuses to assign a class)
    try:
        yield
    finally:
        setattr(hydra._internal.hydra, "ConfigLoaderImpl", ConfigLoaderImpl)  # noqa: B010


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
