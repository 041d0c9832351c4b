"""A sweep's configuration: the check of its options, and what is stored and shown of it, with secrets redacted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from pkgutil import resolve_name
from typing import Any, cast

import yaml
from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from hydra_plugins.kamerton._environment import environment_by_name
from hydra_plugins.kamerton._internals import get_omega_conf_dumper
from hydra_plugins.kamerton._options import OptunaSweeperConf
from hydra_plugins.kamerton._overrides import SweepError
from kamerton import mask
from kamerton.words import did_you_mean


def typed(config: DictConfig, kind: str) -> list[str]:
    """Return the overrides of a `kind` (task, hydra) as they were typed: a job resolves their interpolations."""
    texts = OmegaConf.to_container(config.hydra.overrides[kind], resolve=False)
    assert isinstance(texts, list)
    return [str(text) for text in texts]


def params(config: DictConfig) -> dict[str, Any]:
    """Return `hydra.sweeper.params`, with environment variables unresolved: a trial's overrides are in files.

    Only the bounds of an interval or a range are resolved, because they must be numbers.
    """
    with environment_by_name(defaults=True):
        unresolved = OmegaConf.to_container(config.hydra.sweeper.params, resolve=True)
    return dict(_with_bounds(unresolved, OmegaConf.to_container(config.hydra.sweeper.params, resolve=True)))


def _with_bounds(unresolved: Any, value: Any) -> Any:
    if isinstance(unresolved, dict):
        return {str(key): _with_bounds(text, value[key]) for key, text in unresolved.items()}
    has_bounds = isinstance(unresolved, str) and re.search(r"\b(interval|range)\(.*\$", unresolved)
    return value if has_bounds else unresolved


def refuse(options: Mapping[str, Any]) -> None:
    """Raise `SweepError` for unknown keys of `hydra.sweeper`, such as `+hydra.sweeper.n_trails=40` adds, and for times
    by which a running trial would be considered dead.
    """
    keys = [each.name for each in fields(OptunaSweeperConf)]
    unknown = [key for key in options if key not in keys and not key.startswith("_")]  # _convert_ and such are Hydra's
    if unknown:
        advice = ", ".join(dict.fromkeys(did_you_mean(key, keys) for key in unknown))
        raise SweepError(f"unknown key hydra.sweeper.{', hydra.sweeper.'.join(unknown)}\n  fix: {advice}")
    beat, grace = options["heartbeat_interval"], options["grace_period"]
    if not 0 < beat < grace:
        message = (
            f"hydra.sweeper.grace_period is {grace}, heartbeat_interval {beat}: running trials would be considered dead"
        )
        fix = "give heartbeat_interval seconds above 0, and grace_period at least twice as many"
        raise SweepError(f"{message}\n  fix: {fix}")


def space_function(path: str | None) -> Callable[..., Any] | None:
    """Import the function that `custom_search_space` names; raises `SweepError` if that is not possible."""
    if not path:
        return None
    try:
        function = resolve_name(path)
    except Exception as error:  # whatever the user's module raises when it is imported
        reason = f"{type(error).__name__}: {error}"
    else:
        if callable(function):
            return cast("Callable[..., Any]", function)
        reason = f"it is a {type(function).__name__}, not a callable"
    fix = "name a function as module.function, of a module that Python finds: PYTHONPATH=FOLDER if it is not installed"
    raise SweepError(f"hydra.sweeper.custom_search_space={path} cannot be used: {reason}\n  fix: {fix}")


def shown(config: DictConfig) -> str:
    """Return the configuration as YAML, with secrets redacted: those of the sweep and those that were typed."""
    shown = mask.masked(OmegaConf.to_container(config, enum_to_str=True))
    hydra = shown["hydra"]
    hydra["overrides"] = mask.masked(hydra["overrides"], prose=True)
    hydra["job"] = mask.masked(hydra["job"], prose=True)  # its override_dirname has what was typed
    return yaml.dump(shown, Dumper=get_omega_conf_dumper(), allow_unicode=True, sort_keys=False)


def application(config: DictConfig, loader: ConfigLoader, fixed: Sequence[str]) -> DictConfig:
    """Return the application's part of the configuration, shared by all trials; `fixed` are their common overrides."""
    shared = loader.load_sweep_config(config, list(fixed))
    with read_write(shared), open_dict(shared):
        del shared["hydra"]
    return shared


def flat(shared: DictConfig, varied: Collection[str]) -> dict[str, Any]:
    """Return the values by dotted key, in JSON's types, without the keys that vary; secrets are redacted."""
    values = mask.masked(OmegaConf.to_container(shared, enum_to_str=True))
    kept = {key: value for key, value in _leaves(values) if key not in varied}
    return dict(json.loads(json.dumps(kept, default=str)))


def _leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(values, dict) or not values:
        yield prefix, values
        return
    for key, value in values.items():
        yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
