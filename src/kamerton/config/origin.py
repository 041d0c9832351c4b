"""The file that a configuration key comes from, named in faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from kamerton.config.hydra_internals import ConfigLoaderImpl
from kamerton.errors import Fault

COMMAND_LINE = "command line"
PRESETS = ("experiment", "debug")  # groups whose files set keys of other sections
Locate = Callable[[Fault], Fault]


def locator(overrides: Sequence[str], loader: ConfigLoaderImpl, root: str) -> Locate:
    """Return a function that adds to a fault where its key was set: the command line, else the file that wins.

    For an option chosen on the command line (`data=jsonl`) that is the command line, not the option's file.
    """
    typed = [key_of(text) for text in overrides if text.startswith(("+", "~", "hydra"))]
    groups = [key_of(text) for text in overrides if not text.startswith(("+", "~", "hydra"))]
    files: list[tuple[str, str, Any]] = []

    def locate(fault: Fault) -> Fault:
        if fault.file is not None or fault.column is None:
            return fault
        if any(is_below(fault.column, key) for key in typed):
            return replace(fault, file=COMMAND_LINE)
        if not files:
            files.extend(_files(overrides, loader, root))
        holding = (name for name, package, content in files if _holds(content, package, fault.column or ""))
        file = next(holding, COMMAND_LINE)
        chosen = [group for group in groups if file.startswith(f"{group}/") and group not in PRESETS]
        is_choice = any(is_below(fault.column, group) for group in chosen)
        return replace(fault, file=COMMAND_LINE if is_choice else file)

    return locate


def in_space(locate: Locate, searched: Sequence[str]) -> Locate:
    """Return the same function for a sweep: searched keys come from the file with the search space."""

    def locate_in_space(fault: Fault) -> Fault:
        place = locate(fault)
        if place.file != COMMAND_LINE or not any(is_below(fault.column or "", key) for key in searched):
            return place
        return replace(place, file=locate(replace(fault, column="hydra.sweeper.params")).file)

    return locate_in_space


def is_below(key: str, section: str) -> bool:
    """Whether a dotted key is a section, or lies in it."""
    return key == section or key.startswith(f"{section}.")


def key_of(override: str) -> str:
    """Return the key that an override sets, without `+`, `++` or `~`."""
    return override.lstrip("+~").partition("=")[0]


def _files(overrides: Sequence[str], loader: ConfigLoaderImpl, root: str) -> list[tuple[str, str, Any]]:
    """Return name, package and content of every configuration file of a composition, the winning one first."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    chosen = loader.compute_defaults_list(root, [str(override.input_line) for override in parsed], RunMode.RUN)
    files = []
    for default in reversed(chosen.defaults):
        path = default.config_path
        result = None if path is None or path.startswith("hydra/") else loader.repository.load_config(path)
        if result is not None:
            files.append((f"{path}.yaml", default.package or "", OmegaConf.to_container(result.config)))
    return files


def _holds(content: Any, package: str, key: str) -> bool:
    prefix = f"{package}." if package else ""
    if key == package:
        return True
    if not key.startswith(prefix):
        return False
    for part in key[len(prefix) :].split("."):
        if not isinstance(content, Mapping) or part not in content:
            return False
        content = content[part]
    return True
