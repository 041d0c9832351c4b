"""Checking what was typed, before Hydra runs.

Hydra alone reports one fault at a time, and merges an unknown key of an experiment file silently. So what was typed
is composed once with every value override forced in, checked against the schema, and every fault is given the file
that it comes from. A single run then starts from this very composition.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from kamerton.config.check import check_config, validate
from kamerton.config.compose import ROOT, config_loader
from kamerton.config.composed import Composed, compose_overrides
from kamerton.config.data_choice import with_data_choice
from kamerton.config.hydra_internals import ConfigLoaderImpl
from kamerton.config.jobs import Options
from kamerton.config.judging import command_faults
from kamerton.config.origin import COMMAND_LINE, PRESETS, Locate, in_space, is_below, locator
from kamerton.config.overrides import (
    existing_options,
    parse_each,
    repeated_options,
    selections,
    several_values,
    texts_to_compose,
)
from kamerton.config.schema import Config, mapping_at
from kamerton.config.sweep import begins_sweep, check_sweep, search_space
from kamerton.errors import Fault, FaultCollector
from kamerton.words import did_you_mean

Values = dict[str, Any]
Preflight = Callable[[Values, Collection[str]], list[Fault]]  # of these sections of the values


@dataclass(frozen=True, slots=True)
class Root(Generic[Options]):
    """What a command composes, `conf/NAME.yaml`; the schema of that, and the checks of plain values beyond it."""

    name: str
    schema: type[Options]
    check: Callable[[Values], list[Fault]]


TRAIN = Root(ROOT, Config, check_config)


@dataclass(frozen=True, slots=True)
class Checked(Generic[Options]):
    """A composition that was checked; `options` are its validated values, None if they have faults."""

    composed: Composed
    options: Options | None
    loader: ConfigLoaderImpl
    locate: Locate
    is_trusted: bool

    @property
    def config(self) -> DictConfig:
        """The composition with Hydra's section."""
        return self.composed.config

    @property
    def values(self) -> Values:
        """Plain values."""
        return self.composed.values

    @property
    def unresolved(self) -> Values:
        """Plain values, those of the environment by name."""
        return self.composed.unresolved

    @property
    def is_sweep(self) -> bool:
        """Whether Hydra's section requests several jobs."""
        return _is_multirun(self.composed.hydra)


_Compose = Callable[..., Composed | Fault]


def check_overrides(
    overrides: Sequence[str],
    config_dir: str | None = None,
    preflight: Preflight | None = None,
    *,
    sweeps: bool = True,
    root: Root[Options] = TRAIN,  # type: ignore[assignment]
) -> list[Fault]:
    """Every fault of what was typed and of the files it selects, each with its origin; see `check_command`."""
    faults = FaultCollector()
    check_command(overrides, config_dir, preflight, sweeps=sweeps, root=root, faults=faults)
    return faults.faults


def check_command(
    overrides: Sequence[str],
    config_dir: str | None,
    preflight: Preflight | None,
    *,
    sweeps: bool,
    root: Root[Options],
    faults: FaultCollector,
) -> Checked[Options] | None:
    """Compose and check what was typed; return the first composition, None if it is not possible.

    Faults are collected as they are found: those of the schema come at once. `preflight` finds more in sections of the
    composed values, such as faults of the data they name, which may take seconds: in all sections of a configuration
    without errors, else in those that were typed (`_typed_sections`). Of a sweep every choice and both ends of
    every interval are checked, each together with the first values of the others.
    """
    if config_dir is not None and not Path(config_dir).is_dir():
        fix = "give the folder that contains your experiment/ folder"
        message = f"there is no folder {config_dir!r}"
        faults.add(Fault("config.folder", message, fix, COMMAND_LINE, column="--config-dir"))
        config_dir = None
    loader = config_loader(config_dir, overrides)
    overrides = with_data_choice(overrides, loader, root.name)
    parsed = parse_each(overrides, faults)
    kept = existing_options(parsed, loader, faults)
    # The first values of all are asked for twice.
    composed: _Compose = cache(lambda *texts: compose_overrides(list(texts), config_dir, loader, root.name))
    texts, searched = _texts_and_space(kept, composed, loader, sweeps, faults)
    checked: list[Checked[Options]] = []
    for selection in selections(texts):
        composition = composed(*selection)
        if isinstance(composition, Fault):
            faults.add(composition)
        else:
            checked.append(_check(composition, kept, searched, composed, loader, root, faults))
    for each in checked if preflight else []:
        if each.is_trusted:  # a preflight check would import what the file names
            sections = _typed_sections(kept, each.values, faults) if faults.has_errors else each.values
            deeper = preflight(each.values, sections) if preflight else []
            faults.add(*map(each.locate, sorted(deeper, key=lambda fault: fault.severity)))  # "error" before "warning"
    return checked[0] if checked else None


def _check(
    composition: Composed,
    typed: Sequence[Override],
    searched: Sequence[str] | None,
    composed: _Compose,
    loader: ConfigLoaderImpl,
    root: Root[Options],
    faults: FaultCollector,
) -> Checked[Options]:
    """Collect the faults of one composition, each at the place that it comes from."""
    values = composition.values
    untrusted = command_faults(composition, typed, loader)
    typed_keys = {override.key_or_group for override in typed}
    from_file = [key for key in searched or () if key not in typed_keys]
    locate = in_space(locator(composition.overrides, loader, root.name), from_file)
    options, invalid = validate(values, root.schema)
    removed = _check_removed(composition, composed, loader)
    all_faults = [
        *invalid,
        *root.check(values),
        *removed,
        *untrusted,
        *check_sweep(values, composition.hydra, searched),
        *repeated_options(composition.overrides, loader, root.name),
    ]
    faults.add(*map(locate, all_faults))
    return Checked(composition, options, loader, locate, is_trusted=not untrusted)


def _texts_and_space(
    kept: Sequence[Override], composed: _Compose, loader: ConfigLoaderImpl, sweeps: bool, faults: FaultCollector
) -> tuple[list[list[str]], list[str] | None]:
    """The texts to compose, one list for each override, several if it is a sweep; and the keys that a study searches
    over, None if its space cannot be read.
    """
    texts = [texts_to_compose(override, loader) for override in kept]
    first = composed(*(each[0] for each in texts if each))
    hydra = first.hydra if isinstance(first, Composed) else {}
    if begins_sweep(hydra):
        space, wrong = search_space(hydra, [str(override.input_line) for override in kept], loader)
        faults.add(*wrong)
        texts = [texts_to_compose(override, loader) for override in kept if not override.is_sweep_override()]
        for samples in space:
            sound = existing_options(samples, loader, faults)
            texts.append([text for override in sound for text in texts_to_compose(override, loader)])
        return texts, None if wrong else [first.key_or_group for first, *_ in space]
    unknown = not hydra and any(override.key_or_group == "sweep" for override in kept)  # it cannot be composed
    if not (sweeps or unknown or _is_multirun(hydra)):
        faults.add(*(several_values(override) for override in kept if override.is_sweep_override()))
        return [each[:1] for each in texts], []
    return texts, []


def _is_multirun(hydra: Values) -> bool:
    return getattr(hydra.get("mode"), "name", "") == "MULTIRUN"


def _typed_sections(typed: Sequence[Override], values: Values, faults: FaultCollector) -> Collection[str]:
    """The sections for which something was typed that no fault so far is about; all of them if a preset was chosen."""
    reported = [fault.column for fault in faults.faults if fault.column]
    keys = {override.key_or_group for override in typed}
    if keys & {*PRESETS, "sweep"}:
        return values
    return {re.split(r"[./]", key)[0] for key in keys if not any(is_below(key, column) for column in reported)}


def _check_removed(composition: Composed, composed: _Compose, loader: ConfigLoaderImpl) -> list[Fault]:
    """Entries set to null that no file has: most often the misspelt name of one that stays."""
    faults = []
    for group in ("callbacks", "logger", "metrics"):
        empty = [str(name) for name, node in mapping_at(composition.values, group).items() if node is None]
        if not empty:
            continue
        # What can be removed: all that the group's files have, and the entries chosen before values were typed.
        files = [loader.repository.load_config(f"{group}/{option}") for option in loader.get_group_options(group)]
        removable = {str(name) for file in files if file is not None for name in file.config}
        if removable.issuperset(empty):
            continue  # a second composition takes longer than all other checks
        before = composed(*(text for text in composition.overrides if not text.startswith("++")))
        entries = mapping_at(before.values if isinstance(before, Composed) else composition.values, group)
        removable.update(str(name) for name, node in entries.items() if node is not None)
        faults += [
            Fault(
                "config.key",
                f"unknown configuration key '{group}.{name}': there is nothing to remove",
                did_you_mean(name, removable),
                column=f"{group}.{name}",
            )
            for name in empty
            if name not in removable
        ]
    return faults
