"""Checking what was typed, before Hydra runs.

Hydra alone reports one fault at a time, and merges an unknown key of an experiment file silently. So what was typed
is composed once with every value override forced in, checked against the schema, and every fault is given the file
that it comes from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError
from yaml import MarkedYAMLError

from kamerton.config.check import check_values
from kamerton.config.compose import (
    ROOT,
    compose_config,
    config_loader,
    forced,
    options_of,
    plain,
    resolved,
    searching,
    unused_groups,
)
from kamerton.config.foreign import Path as Key
from kamerton.config.foreign import Setting, foreign_settings, override_settings, typed_paths
from kamerton.config.judged import Judged
from kamerton.config.meant import option_meant
from kamerton.config.origin import COMMAND_LINE, in_space, key_of, locator
from kamerton.config.search import SEARCHPATH, config_dir_of
from kamerton.config.secrets import named
from kamerton.config.sections import mapping_at
from kamerton.config.space import search_space
from kamerton.config.sweep import begins_sweep, check_sweep
from kamerton.config.syntax import syntax_fault
from kamerton.config.trust import check_trust
from kamerton.endpoint import is_loopback
from kamerton.errors import Fault
from kamerton.words import did_you_mean

Deeper = Callable[[dict[str, Any]], list[Fault]]


@dataclass(frozen=True, slots=True)
class Root:
    """What a command composes: `conf/NAME.yaml`, and the check of the plain values that come of it."""

    name: str
    check: Deeper


TRAIN = Root(ROOT, check_values)


@dataclass(frozen=True, slots=True)
class _Composed:
    """A configuration as plain values, Hydra's own section unresolved, and what was typed for it.

    `resolved` is that section with what can be resolved, `foreign` what files of others set, `named` the values with
    the environment's by name.
    """

    values: dict[str, Any]
    hydra: dict[str, Any]
    overrides: list[str]
    resolved: dict[str, Any]
    foreign: list[Setting]
    named: dict[str, Any]

    def judged(self, typed: Sequence[Override], loader: ConfigLoaderImpl) -> Judged:
        """What `check_trust` looks at, where `typed` was typed."""
        return Judged(self.values, self.resolved, self.foreign, self.named, *_typed(typed, loader))


_Compose = Callable[..., _Composed | Fault]
_VARIABLE = re.compile(r"\boc\.env:\s*['\"]?([^,}\s'\"]+)")


def check_overrides(
    overrides: Sequence[str], config_dir: str | None = None, deeper: Deeper | None = None, *, sweeps: bool = True
) -> list[Fault]:
    """Every fault of what was typed (and of the files it selects), each with its origin."""
    return list(find_faults(overrides, config_dir, deeper, sweeps=sweeps))


def find_faults(
    overrides: Sequence[str],
    config_dir: str | None = None,
    deeper: Deeper | None = None,
    *,
    sweeps: bool = True,
    root: Root = TRAIN,
) -> Iterator[Fault]:
    """The faults of `check_overrides` as they are found: those of the schema come at once.

    `deeper` finds more in the composed values, such as faults of the data they name; that may take seconds. Of a
    sweep every choice and both ends of every interval are checked, each together with the first values of the others.
    """
    if config_dir is not None and not Path(config_dir).is_dir():
        fix = "give the folder that holds your experiment/ folder"
        yield Fault("config.folder", f"there is no folder {config_dir!r}", fix, COMMAND_LINE, column="--config-dir")
        config_dir = None
    said: list[Fault] = []
    for fault in _find(overrides, config_dir, deeper, sweeps, root):
        if fault not in said:
            said.append(fault)
            yield fault


def _find(
    overrides: Sequence[str], config_dir: str | None, deeper: Deeper | None, sweeps: bool, root: Root
) -> Iterator[Fault]:
    parsed, faults = _parse(overrides)
    loader = config_loader(config_dir, overrides)
    yield from faults
    kept = yield from _sound(parsed, loader)
    # The first values of all are asked for twice.
    composed = cache(lambda *texts: _compose(list(texts), config_dir, loader, root.name))
    forms, searched = yield from _points(kept, composed, loader, sweeps)
    good = []
    for selection in _alternatives(forms):
        found = composed(*selection)
        if isinstance(found, Fault):
            yield found
            continue
        untrusted = check_trust(found.judged(kept, loader))
        given = {one.key_or_group for one in kept}
        from_file = [key for key in searched or () if key not in given]
        locate = in_space(locator(found.overrides, loader, root.name), from_file)
        removed = _check_removed(found, composed, loader)
        faults = [*root.check(found.values), *removed, *untrusted, *check_sweep(found.values, found.hydra, searched)]
        yield from map(locate, faults)
        if not untrusted:  # a deeper look would import what the file names
            good.append((found, locate))
    for found, locate in good if deeper else []:
        assert deeper is not None
        faults = sorted(deeper(found.values), key=lambda fault: fault.severity)  # "error" before "warning"
        yield from map(locate, faults)


def _typed(overrides: Sequence[Override], loader: ConfigLoaderImpl) -> tuple[set[Key], set[str], list[str]]:
    """What overrides typed: keys, groups of which they chose an option, variables of the environment by name."""
    choices = {one.key_or_group for one in overrides if one.package is None and options_of(one, loader)}
    variables = _VARIABLE.findall(" ".join(str(one.input_line) for one in overrides))
    return typed_paths(overrides, loader), choices, variables


def job_faults(
    values: dict[str, Any], named: dict[str, Any], overrides: Sequence[str], search: Sequence[str]
) -> list[Fault]:
    """Faults of what only the command line may decide in one job of a sweep, where `overrides` were typed, and
    `search` names places of files.

    Of a space every value was tried alone, not each with all others, and a file may combine them by interpolations.
    """
    parsed, faults = _parse(overrides)
    loader = config_loader(config_dir_of(search), search)
    judged = Judged(values, {}, (), named, *_typed(parsed, loader))
    return [*faults, *check_trust(judged)]


def untyped_faults(overrides: Sequence[str], search: Sequence[str] = ()) -> list[Fault]:
    """Faults of overrides of `kamerton train` that nobody typed, such as those that a run directory keeps: what only
    the command line may decide, or what keeps them from being composed. An endpoint on this machine and W&B's own
    server are nothing that a stranger chose. `search` are words that name places of files (`config.search`).
    """
    parsed, faults = _parse(overrides)
    config_dir, loader = config_dir_of(search), config_loader(config_dir_of(search), search)
    places = [text for text in search if key_of(text) == SEARCHPATH]
    texts = [*places, *(forced(one, str(one.input_line), loader) for one in parsed)]
    found = _compose(texts, config_dir, loader, ROOT)
    if isinstance(found, Fault):
        return [*faults, found]
    harmless = {f"logger.{name}.mode" for name in mapping_at(found.values, "logger")}
    harmless |= {"model.base_url"} if is_loopback(str(mapping_at(found.values, "model").get("base_url"))) else set()
    foreign = [*found.foreign, *override_settings(parsed, loader, COMMAND_LINE)]
    untrusted = check_trust(Judged(found.values, found.resolved, foreign, found.named))
    return [*faults, *(fault for fault in untrusted if fault.column not in harmless)]


def _check_removed(found: _Composed, composed: _Compose, loader: ConfigLoaderImpl) -> list[Fault]:
    """Entries set to null that no file has: most often the misspelt name of one that stays."""
    faults = []
    for group in ("callbacks", "logger", "metrics"):
        empty = [name for name, node in mapping_at(found.values, group).items() if node is None]
        known = _entries(group, found, composed, loader) if empty else set()
        faults += [
            Fault(
                "config.key",
                f"unknown configuration key '{group}.{name}': there is nothing to remove",
                did_you_mean(str(name), known),
                column=f"{group}.{name}",
            )
            for name in empty
            if name not in known
        ]
    return faults


def _entries(group: str, found: _Composed, composed: _Compose, loader: ConfigLoaderImpl) -> set[str]:
    """What could be removed from a group: all that its files have, and the chosen ones before values were typed."""
    files = [loader.repository.load_config(f"{group}/{option}") for option in loader.get_group_options(group)]
    chosen = [text for text in found.overrides if not text.startswith("++")]
    before = composed(*chosen)
    entries = mapping_at(before.values if isinstance(before, _Composed) else found.values, group)
    named = {str(name) for name, node in entries.items() if node is not None}
    return named.union(*(map(str, file.config) for file in files if file is not None))


def _points(
    kept: Sequence[Override], composed: _Compose, loader: ConfigLoaderImpl, sweeps: bool
) -> Generator[Fault, None, tuple[list[list[str]], list[str] | None]]:
    """The texts to compose, one list for each override, several where it is a sweep; and what a study searches over."""
    forms = [_forms(one, loader) for one in kept]
    first = composed(*(each[0] for each in forms if each))
    hydra = first.hydra if isinstance(first, _Composed) else {}
    if begins_sweep(hydra):
        space, faults = search_space(hydra, [str(one.input_line) for one in kept], loader)
        yield from faults
        forms = [_forms(one, loader) for one in kept if not one.is_sweep_override()]
        for each in space:
            sound = yield from _sound(each, loader)
            forms.append([text for one in sound for text in _forms(one, loader)])
        return forms, None if faults else [one.key_or_group for one, *_ in space]
    unknown = not hydra and any(one.key_or_group == "sweep" for one in kept)  # what was chosen cannot be composed
    if not (sweeps or unknown or getattr(hydra.get("mode"), "name", "") == "MULTIRUN"):
        yield from (_several(one) for one in kept if one.is_sweep_override())
        return [each[:1] for each in forms], []
    return forms, []


def _sound(overrides: Sequence[Override], loader: ConfigLoaderImpl) -> Generator[Fault, None, list[Override]]:
    """The overrides that choose options which are there; the faults of the others come out on the way."""
    kept = []
    for one in overrides:
        faults = _check_group(one, loader)
        yield from faults
        kept += [] if faults else [one]
    return kept


def _parse(overrides: Sequence[str]) -> tuple[list[Override], list[Fault]]:
    """Each override by itself, so that all that cannot be read are said at once."""
    parsed, faults = [], []
    for text in overrides:
        try:
            parsed += OverridesParser.create().parse_overrides([text])
        except HydraException as error:
            faults.append(syntax_fault(text, error))
    return parsed, faults


def _compose(overrides: list[str], config_dir: str | None, loader: ConfigLoaderImpl, root: str) -> _Composed | Fault:
    try:
        config = compose_config(searching(config_dir, overrides), root, with_hydra=True)
        hydra, settled = OmegaConf.to_container(config.hydra), resolved(config.hydra)
        assert isinstance(hydra, dict)
        with open_dict(config):
            del config["hydra"]  # a job does not see it either
        foreign = foreign_settings(overrides, loader, root)
        own = {str(key): value for key, value in hydra.items()}
        return _Composed(plain(config), own, overrides, settled, foreign, named(config))
    except MissingConfigException as error:
        return _missing_option(error, overrides, loader)
    except MarkedYAMLError as error:
        return _bad_yaml(error)
    except Exception as error:  # composing only reads what the user wrote; Hydra raises all kinds of exceptions for it
        return locator(overrides, loader, root)(_not_composed(error, loader, root))


def _missing_option(error: MissingConfigException, overrides: list[str], loader: ConfigLoaderImpl) -> Fault:
    """An entry of a defaults list that names no file."""
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    file = next(_files_choosing(group, option, overrides, loader), None) or _named_file(error) or COMMAND_LINE
    fix = did_you_mean(option, error.options or loader.get_group_options(group))
    return Fault("config.option", f"{group or 'conf'} has no option {option!r}", fix, file, column=group or None)


def _files_choosing(group: str, option: str, overrides: list[str], loader: ConfigLoaderImpl) -> Iterator[str]:
    """The chosen files whose defaults list chooses `option`."""
    for text in overrides:
        name, _, value = text.partition("=")
        result = loader.repository.load_config(f"{name}/{value}") if loader.get_group_options(name) else None
        for entry in (result.defaults_list if result else None) or []:
            chosen = (str(getattr(entry, "group", "")).strip("/"), str(getattr(entry, "value", "")))
            if chosen == (group, option):
                yield f"{name}/{value}.yaml"


def _bad_yaml(error: MarkedYAMLError) -> Fault:
    mark = error.problem_mark
    file = _below_conf(mark.name) if mark else None
    place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return Fault("config.yaml", f"not YAML: {error.problem or error.context}{place}", "correct that line", file)


def _not_composed(error: Exception, loader: ConfigLoaderImpl, root: str) -> Fault:
    behind = error.__cause__ or error.__context__
    if isinstance(behind, ConfigKeyError | ConfigAttributeError):
        return _unknown_key(behind, _named_file(error))
    text = f"{error} {error.__cause__ or ''}"
    reason = " ".join(text.split()) or type(error).__name__
    group = re.search(r"Could not override '/?([^'@]+)", text)
    fix = "correct the override or the file it names"
    if group:
        unused = unused_groups(root)
        fix = did_you_mean(group[1], set(loader.list_groups("")) - unused)
        if group[1] in unused:
            reason, fix = f"kamerton {root} has no {group[1]}: another command chooses from it", "leave it out"
    key = re.search(r"full_key: (\S+)", text)
    place = _named_file(error) or (None if key and not key[1].startswith("object_type") else COMMAND_LINE)
    return Fault("config.compose", reason, fix, place, column=key[1] if key and place is None else None)


def _unknown_key(error: ConfigKeyError | ConfigAttributeError, file: str | None) -> Fault:
    """A key that one of Hydra's own sections does not have; Hydra itself would have it added."""
    key, section = str(error.full_key), error.parent_node
    known = [str(name) for name in section] if isinstance(section, DictConfig) else []
    fix = did_you_mean(str(error.key), known)
    if error.object_type_str == "BasicSweeperConf":
        fix = f"add sweep=lr_batch or another sweep if {error.key} is one of its keys"
    elif error.object_type is dict:  # arguments of a class, of which not all are listed
        fix += f"; a new one is added with +{key}=…"
    return Fault("config.key", f"unknown configuration key {key!r}", fix, file, column=key)


def _named_file(error: Exception) -> str | None:
    """The configuration file that Hydra's sentence speaks of."""
    found = re.search(r"\b[Ii]n '([^']+)'", str(error))
    return f"{found[1]}.yaml" if found else None


def _below_conf(path: str) -> str:
    """A configuration file's path as a user writes it: group/option.yaml, where that can be told."""
    return "/".join(Path(path).parts[-2:])


def _several(override: Override) -> Fault:
    """Several values where one run was asked for."""
    key = override.key_or_group
    fix = f"add -m for one run for each, write {key}=[…] for a list, or quote a value that holds a comma"
    return Fault("config.sweep", f"{key} has several values", fix, COMMAND_LINE, column=key)


def _check_group(override: Override, loader: ConfigLoaderImpl) -> list[Fault]:
    """A chosen option that the group does not have."""
    options = options_of(override, loader)
    if not options or override.is_delete() or override.key_or_group.startswith("hydra"):
        return []
    chosen = [text.partition("=")[2] for text in _texts(override)]
    wrong = [name for name in chosen if name not in (*options, "null") and not name.startswith(("[", "{"))]
    key = override.key_or_group
    return [
        Fault(
            "config.option",
            f"{key} has no option {name!r}",
            option_meant(key, name, options),
            file="command line",
            column=key,
        )
        for name in wrong
    ]


def _texts(override: Override) -> list[str]:
    """An override as typed, one text for each value of a sweep; of an interval its ends."""
    value = override.value()
    prefix = override.input_line.partition("=")[0] if override.input_line else override.key_or_group
    if override.is_sweep_override() and isinstance(value, ChoiceSweep | RangeSweep):
        return [f"{prefix}={text}" for text in override.sweep_string_iterator()]
    if isinstance(value, IntervalSweep):
        return [f"{prefix}={value.start}", f"{prefix}={value.end}"]
    return [str(override.input_line)]


def _forms(override: Override, loader: ConfigLoaderImpl) -> list[str]:
    """The texts as they are composed."""
    return [forced(override, text, loader) for text in _texts(override)]


def _alternatives(forms: Sequence[list[str]]) -> Iterator[list[str]]:
    """The first value of every sweep, then each further value alone: a sum, not the product."""
    first = [each[0] for each in forms if each]
    yield first
    for index, each in enumerate(each for each in forms if each):
        for text in each[1:]:
            yield [*first[:index], text, *first[index + 1 :]]
