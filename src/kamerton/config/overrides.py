"""Overrides as they were typed: parsing each, and the texts that are composed to check it."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from kamerton.config.compose import chosen, forced, offered, options_of, reads_foreign
from kamerton.config.hydra_internals import ConfigLoaderImpl
from kamerton.config.meant import option_meant
from kamerton.config.origin import COMMAND_LINE
from kamerton.config.schema import mapping_at
from kamerton.config.syntax import syntax_fault
from kamerton.errors import Fault, FaultCollector
from kamerton.shell import setting

_ROLES = "prompt|completion|system|instruction"
_TEMPLATE = re.compile(rf"(\+*data\.(?:sources\.[^.=]+\.)?(?:{_ROLES}))=([^'\"].*)", re.DOTALL)


def quote_templates(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with quotes of Hydra's grammar around templates and texts that it could not read.

    `data.prompt={context}` would be a mapping, and `data.system=Be brief, please` two values of a sweep.
    """
    return [_quote_template(text) for text in arguments]


def _quote_template(text: str) -> str:
    match = _TEMPLATE.fullmatch(text)
    if match is None or not re.search(r"[{}():\\]|, ", match[2]):
        return text
    return shlex.split(setting(match[1], match[2]))[0]


def parse_each(overrides: Sequence[str], faults: FaultCollector) -> list[Override]:
    """Parse each override by itself, so that all that cannot be read are reported."""
    parsed: list[Override] = []
    for text in overrides:
        try:
            parsed += OverridesParser.create().parse_overrides([text])
        except HydraException as error:
            faults.add(syntax_fault(text, error))
    return parsed


def existing_options(overrides: Sequence[Override], loader: ConfigLoaderImpl, faults: FaultCollector) -> list[Override]:
    """Return the overrides whose option exists, if they choose one; collect a fault for each other one."""
    kept = []
    for override in overrides:
        unknown = _unknown_options(override, loader)
        faults.add(*unknown)
        kept += [] if unknown else [override]
    return kept


def _unknown_options(override: Override, loader: ConfigLoaderImpl) -> list[Fault]:
    options = options_of(override, loader)
    key = override.key_or_group
    if not options or override.is_delete() or key.startswith("hydra"):
        return []
    names = [text.partition("=")[2] for text in _texts(override)]
    valid = offered(key, loader)
    wrong = [name for name in names if name not in (*options, "null") and not name.startswith(("[", "{"))]
    return [
        Fault("config.option", f"{key} has no option {name!r}", option_meant(key, name, valid), COMMAND_LINE, None, key)
        for name in wrong
    ]


def repeated_options(texts: Sequence[str], loader: ConfigLoaderImpl, root: str) -> Iterator[Fault]:
    """Yield a fault for each option that a list names twice, typed or in a chosen file; Hydra merges them into one."""
    choices = chosen(OverridesParser.create().parse_overrides(list(texts)), loader)
    if not any("[" in text for text in choices) and not reads_foreign(choices, loader):
        return
    read = loader.compute_defaults_list(root, list(choices), RunMode.RUN).overrides
    for group, names in read.override_choices.items():
        for name, count in Counter(names if isinstance(names, list) else ()).items():
            if count > 1:
                file = read.override_metadata[group].containing_config_path
                message = f"{group} names {name!r} {count} times, which makes one {name} and not {count}"
                place = COMMAND_LINE if file is None else f"{file}.yaml"
                yield Fault("config.option", message, _named_once(group, name, loader), place, column=group)


def _named_once(group: str, name: str, loader: ConfigLoaderImpl) -> str:
    """Return the fix of an option that is named several times; for a function with another name for the second."""
    result = loader.repository.load_config(f"{group}/{name}")
    content: Any = OmegaConf.to_container(result.config) if result is not None else {}
    node = mapping_at(content, name)
    if "_target_" not in node:
        return f"name {name} once"
    return f"name {name} once, and for a second one add {group}.{name}_2._target_={node['_target_']}"


def texts_to_compose(override: Override, loader: ConfigLoaderImpl) -> list[str]:
    """An override in the form that is composed: one text, or of a sweep one for each value to check."""
    return [forced(override, text, loader) for text in _texts(override)]


def _texts(override: Override) -> list[str]:
    """An override as typed, one text for each value of a sweep; of an interval its ends."""
    value = override.value()
    prefix = override.input_line.partition("=")[0] if override.input_line else override.key_or_group
    if override.is_sweep_override() and isinstance(value, ChoiceSweep | RangeSweep):
        return [f"{prefix}={text}" for text in override.sweep_string_iterator()]
    if isinstance(value, IntervalSweep):
        return [f"{prefix}={value.start}", f"{prefix}={value.end}"]
    return [str(override.input_line)]


def selections(texts: Sequence[list[str]]) -> Iterator[list[str]]:
    """The first value of every sweep, then each further value alone: a sum, not the product."""
    filled = [each for each in texts if each]
    first = [each[0] for each in filled]
    yield first
    for index, each in enumerate(filled):
        for text in each[1:]:
            yield [*first[:index], text, *first[index + 1 :]]


def several_values(override: Override) -> Fault:
    """The fault of several values in a command that runs one job."""
    key = override.key_or_group
    fix = f"add -m for one run for each, write {key}=[…] for a list, or quote a value that contains a comma"
    return Fault("config.sweep", f"{key} has several values", fix, COMMAND_LINE, column=key)
