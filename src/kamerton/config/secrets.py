"""Configurations without secrets: environment variables by name, values that look secret masked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra_plugins.kamerton._environment import environment_by_name
from kamerton.config.compose import plain
from kamerton.mask import masked

Values = dict[str, Any]
_PLACES = ("name", "run_id", "resume", "paths")  # they make up the path of the run directory, which shows them anyway


def unresolved(config: Any) -> Values:
    """Return the plain values of a composed configuration, with `${oc.env:NAME}` for environment variables."""
    with environment_by_name():
        return plain(config)


def redacted(values: Values, unresolved: Mapping[str, Any]) -> Values:
    """Return `values` as they go into files: environment variables by name as in `unresolved`, secrets masked."""
    public = masked(_overlay(values, unresolved))
    return {**public, **{key: values[key] for key in _PLACES if key in values}}


def _overlay(value: Any, unresolved: Any) -> Any:
    if isinstance(unresolved, str) and "${oc.env:" in unresolved:
        return unresolved
    if isinstance(value, dict) and isinstance(unresolved, Mapping):
        return {key: _overlay(inner, unresolved.get(key)) for key, inner in value.items()}
    if isinstance(value, list) and isinstance(unresolved, list) and len(value) == len(unresolved):
        return [_overlay(*pair) for pair in zip(value, unresolved, strict=True)]
    return value
