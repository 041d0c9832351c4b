"""What a sweep keeps and shows of its configuration, without the secrets in it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import yaml
from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf._utils import get_omega_conf_dumper

from kamerton.decide import mask


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
