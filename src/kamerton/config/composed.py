"""A composed configuration as it is checked, or the fault that kept it from being composed."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError
from yaml import MarkedYAMLError

from kamerton.config.compose import compose_config, offered, plain, resolved, searching, unused_groups
from kamerton.config.foreign import Setting, foreign_settings
from kamerton.config.hydra_internals import ConfigLoaderImpl
from kamerton.config.origin import COMMAND_LINE, locator
from kamerton.config.secrets import unresolved
from kamerton.errors import Fault
from kamerton.words import did_you_mean


@dataclass(frozen=True, slots=True)
class Composed:
    """What Hydra made of `overrides`: `config` with Hydra's own section, the rest as plain `values`.

    `hydra` is that section as it is written, `resolved` with what can be resolved; `foreign` is what files of others
    set; `unresolved` are the values with `${oc.env:NAME}` in place of what the environment holds.
    """

    config: DictConfig
    values: dict[str, Any]
    unresolved: dict[str, Any]
    hydra: dict[str, Any]
    resolved: dict[str, Any]
    overrides: list[str]
    foreign: list[Setting]


def compose_overrides(
    overrides: list[str], config_dir: str | None, loader: ConfigLoaderImpl, root: str
) -> Composed | Fault:
    """Compose `conf/ROOT.yaml` with overrides in Hydra's words (`compose.force`), or return why that fails."""
    try:
        config = compose_config(searching(config_dir, overrides), root, loader, with_hydra=True)
        hydra = OmegaConf.to_container(config.hydra)
        assert isinstance(hydra, dict)
        own = pickle.loads(pickle.dumps(config))  # several times faster than a deep copy
        with open_dict(own):
            del own["hydra"]  # as a job sees it
        return Composed(
            config,
            plain(own),
            unresolved(own),
            {str(key): value for key, value in hydra.items()},
            resolved(config.hydra),
            overrides,
            foreign_settings(overrides, loader, root),
        )
    except MissingConfigException as error:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")  # of a defaults list
        file = next(_files_choosing(group, option, overrides, loader), None) or _named_file(error) or COMMAND_LINE
        fix = did_you_mean(option, offered(group, loader))
        return Fault("config.option", f"{group or 'conf'} has no option {option!r}", fix, file, column=group or None)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        path = "/".join(Path(mark.name).parts[-2:]) if mark else None  # as a user writes it: group/option.yaml
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        return Fault("config.yaml", f"not YAML: {error.problem or error.context}{place}", "correct that line", path)
    except Exception as error:  # composing only reads what the user wrote; Hydra raises all kinds of exceptions for it
        return locator(overrides, loader, root)(_not_composed(error, loader, root))


def _files_choosing(group: str, option: str, overrides: list[str], loader: ConfigLoaderImpl) -> Iterator[str]:
    """The chosen files whose defaults list chooses `option`."""
    for text in overrides:
        name, _, value = text.partition("=")
        result = loader.repository.load_config(f"{name}/{value}") if loader.get_group_options(name) else None
        for entry in (result.defaults_list if result else None) or []:
            chosen = (str(getattr(entry, "group", "")).strip("/"), str(getattr(entry, "value", "")))
            if chosen == (group, option):
                yield f"{name}/{value}.yaml"


def _not_composed(error: Exception, loader: ConfigLoaderImpl, root: str) -> Fault:
    behind = error.__cause__ or error.__context__
    if isinstance(behind, ConfigKeyError | ConfigAttributeError):
        # A key that one of Hydra's own sections does not have; Hydra itself would have it added.
        full_key, section = str(behind.full_key), behind.parent_node
        fix = did_you_mean(str(behind.key), [str(name) for name in section] if isinstance(section, DictConfig) else [])
        if behind.object_type_str == "BasicSweeperConf":
            fix = f"add sweep=lr_batch or another sweep if {behind.key} is one of its keys"
        elif behind.object_type is dict:  # arguments of a class, of which not all are listed
            fix += f"; a new one is added with +{full_key}=…"
        message = f"unknown configuration key {full_key!r}"
        return Fault("config.key", message, fix, _named_file(error), column=full_key)
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


def _named_file(error: Exception) -> str | None:
    """The configuration file that Hydra's message names."""
    match = re.search(r"\b[Ii]n '([^']+)'", str(error))
    return f"{match[1]}.yaml" if match else None
