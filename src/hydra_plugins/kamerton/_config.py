"""A sweep's configuration: what of it cannot be used, and what is kept and shown of it, without the secrets in it."""

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
    """The overrides of a `kind` (task, hydra) as they were typed: their interpolations are for a job to resolve."""
    texts = OmegaConf.to_container(config.hydra.overrides[kind], resolve=False)
    assert isinstance(texts, list)
    return [str(text) for text in texts]


def params(config: DictConfig) -> dict[str, Any]:
    """`hydra.sweeper.params`, resolved but for what comes from the environment: a trial's overrides are in files.

    Only the ends of an interval or a range, which must be numbers, are taken from there.
    """
    with environment_by_name(defaults=True):
        named = OmegaConf.to_container(config.hydra.sweeper.params, resolve=True)
    return dict(_without_numbers(named, OmegaConf.to_container(config.hydra.sweeper.params, resolve=True)))


def _without_numbers(named: Any, value: Any) -> Any:
    if isinstance(named, dict):
        return {str(key): _without_numbers(one, value[key]) for key, one in named.items()}
    return value if isinstance(named, str) and re.search(r"\b(interval|range)\(.*\$", named) else named


def refuse(options: Mapping[str, Any]) -> None:
    """Raise `SweepError` for what `hydra.sweeper` may not be: keys that nothing reads, as `+hydra.sweeper.n_trails=40`
    adds one, and times by which a trial that runs would be taken for dead.
    """
    known = [one.name for one in fields(OptunaSweeperConf)]
    unknown = [key for key in options if key not in known and not key.startswith("_")]  # _convert_ and such are Hydra's
    if unknown:
        advice = ", ".join(dict.fromkeys(did_you_mean(key, known) for key in unknown))
        raise SweepError(f"unknown key hydra.sweeper.{', hydra.sweeper.'.join(unknown)}\n  fix: {advice}")
    beat, grace = options["heartbeat_interval"], options["grace_period"]
    if not 0 < beat < grace:
        message = f"hydra.sweeper.grace_period is {grace}, heartbeat_interval {beat}: what runs would be taken for dead"
        fix = "give heartbeat_interval seconds above 0, and grace_period at least twice as many"
        raise SweepError(f"{message}\n  fix: {fix}")


def space_function(path: str | None) -> Callable[..., Any] | None:
    """What `custom_search_space` names; raises `SweepError` where that cannot be called."""
    if not path:
        return None
    try:
        found = resolve_name(path)
    except Exception as error:  # whatever the user's module raises when it is imported
        reason = f"{type(error).__name__}: {error}"
    else:
        if callable(found):
            return cast("Callable[..., Any]", found)
        reason = f"it is no function but a {type(found).__name__}"
    fix = "name a function as module.function, of a module that Python finds: PYTHONPATH=FOLDER where it is no package"
    raise SweepError(f"hydra.sweeper.custom_search_space={path} cannot be used: {reason}\n  fix: {fix}")


def shown(config: DictConfig) -> str:
    """The configuration as YAML without the secrets in it, neither those of the sweep nor those that were typed."""
    shown = mask.masked(OmegaConf.to_container(config, enum_to_str=True))
    hydra = shown["hydra"]
    hydra["overrides"] = mask.masked(hydra["overrides"], prose=True)
    hydra["job"] = mask.masked(hydra["job"], prose=True)  # its override_dirname has what was typed
    return yaml.dump(shown, Dumper=get_omega_conf_dumper(), allow_unicode=True, sort_keys=False)


def application(config: DictConfig, loader: ConfigLoader, fixed: Sequence[str]) -> DictConfig:
    """The application's part of the configuration, as all trials share it; `fixed` are their common overrides."""
    shared = loader.load_sweep_config(config, list(fixed))
    with read_write(shared), open_dict(shared):
        del shared["hydra"]
    return shared


def flat(shared: DictConfig, varied: Collection[str]) -> dict[str, Any]:
    """The values by dotted key, as JSON holds them, but for the keys that vary; what is of the environment by name."""
    values = mask.masked(OmegaConf.to_container(shared, enum_to_str=True))
    kept = {key: value for key, value in _leaves(values) if key not in varied}
    return dict(json.loads(json.dumps(kept, default=str)))


def _leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(values, dict) or not values:
        yield prefix, values
        return
    for key, value in values.items():
        yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
