"""Judging a command, one job of a sweep, or kept overrides by what only the command line may decide (`trust.py`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Override

from kamerton.config.compose import ROOT, config_loader, forced, options_of
from kamerton.config.composed import Composed, compose_overrides
from kamerton.config.foreign import Path, override_settings, typed_paths
from kamerton.config.hydra_internals import ConfigLoaderImpl
from kamerton.config.judged import Judged
from kamerton.config.origin import COMMAND_LINE, key_of
from kamerton.config.overrides import parse_each
from kamerton.config.schema import mapping_at
from kamerton.config.search import SEARCHPATH, config_dir_of
from kamerton.config.trust import check_trust
from kamerton.endpoint import is_loopback
from kamerton.errors import Fault, FaultCollector

_VARIABLE = re.compile(r"\boc\.env:\s*['\"]?([^,}\s'\"]+)")


def command_faults(composed: Composed, typed: Sequence[Override], loader: ConfigLoaderImpl) -> list[Fault]:
    """Faults of what only the command line may decide in a command for which `typed` was typed."""
    values, by_name = composed.values, composed.unresolved
    return check_trust(Judged(values, composed.resolved, composed.foreign, by_name, *_typed(typed, loader)))


def job_faults(
    values: dict[str, Any], unresolved: dict[str, Any], overrides: Sequence[str], search: Sequence[str]
) -> list[Fault]:
    """Faults of what only the command line may decide in one job of a sweep, where `overrides` were typed, and
    `search` names places of files.

    Of a space every value was tried alone, not each with all others, and a file may combine them by interpolations.
    """
    faults = FaultCollector()
    parsed = parse_each(overrides, faults)
    loader = config_loader(config_dir_of(search), search)
    faults.add(*check_trust(Judged(values, {}, (), unresolved, *_typed(parsed, loader))))
    return faults.faults


def untyped_faults(overrides: Sequence[str], search: Sequence[str] = ()) -> list[Fault]:
    """Faults of overrides of `kamerton train` that nobody typed, such as those that a run directory keeps: what only
    the command line may decide, or what keeps them from being composed. An endpoint on this machine and W&B's own
    server are nothing that a stranger chose. `search` are words that name places of files (`config.search`).
    """
    faults = FaultCollector()
    parsed = parse_each(overrides, faults)
    config_dir, loader = config_dir_of(search), config_loader(config_dir_of(search), search)
    places = [text for text in search if key_of(text) == SEARCHPATH]
    texts = [*places, *(forced(override, str(override.input_line), loader) for override in parsed)]
    composed = compose_overrides(texts, config_dir, loader, ROOT)
    if isinstance(composed, Fault):
        return [*faults.faults, composed]
    harmless = {f"logger.{name}.mode" for name in mapping_at(composed.values, "logger")}
    if is_loopback(str(mapping_at(composed.values, "model").get("base_url"))):
        harmless.add("model.base_url")
    foreign = [*composed.foreign, *override_settings(parsed, loader, COMMAND_LINE)]
    untrusted = check_trust(Judged(composed.values, composed.resolved, foreign, composed.unresolved))
    return [*faults.faults, *(fault for fault in untrusted if fault.column not in harmless)]


def _typed(overrides: Sequence[Override], loader: ConfigLoaderImpl) -> tuple[set[Path], set[str], list[str]]:
    """What overrides typed: keys, groups of which they chose an option, variables of the environment by name."""
    choices = {
        override.key_or_group for override in overrides if override.package is None and options_of(override, loader)
    }
    variables = _VARIABLE.findall(" ".join(str(override.input_line) for override in overrides))
    return typed_paths(overrides, loader), choices, variables
