"""What a configuration file may not decide: whose code runs. Only what is typed on the command line can widen that.

An experiment file may come from a stranger. Hydra builds classes and logging handlers that its own section names,
before any job begins, and hands environment variables to it; so that section is checked as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kamerton.errors import Fault

_TYPED_ONLY = (
    *("allow_targets", "model.trust_remote_code", "hydra.job.env_set", "hydra.searchpath"),
    "hydra.sweeper.custom_search_space",
)
_HYDRA_TARGETS = ("hydra._internal.core_plugins.", "hydra_plugins.", "hydra.experimental.callbacks.")
# What a sweep is searched with: a class by its public name alone, for modules hold other packages' functions as well.
_SEARCH = {
    "hydra.sweeper.sampler.": re.compile(r"optuna\.samplers\.(nsgaii\.)?[A-Z]\w*"),
    "hydra.sweeper.pruner.": re.compile(r"optuna\.pruners\.[A-Z]\w*"),
}
_HANDLERS = {
    *("logging.StreamHandler", "logging.FileHandler", "logging.NullHandler", "logging.handlers.RotatingFileHandler"),
    "colorlog.ColoredFormatter",
}
_STREAMS = {"ext://sys.stdout", "ext://sys.stderr"}


def check_trust(values: Mapping[str, Any], hydra: Mapping[str, Any], typed: Sequence[str]) -> list[Fault]:
    """Faults of code that files name for themselves; `typed` are the keys of the command line."""
    allowed = values.get("allow_targets") if "allow_targets" in typed else ()
    prefixes = (*_HYDRA_TARGETS, *(allowed if isinstance(allowed, list) else ()))
    return [
        *_only_typed({**values, "hydra": hydra}, typed),
        *_hydra_targets(hydra, prefixes),
        *_unpickled(hydra, typed),
        *_logging(hydra),
    ]


def _only_typed(values: Mapping[str, Any], typed: Sequence[str]) -> list[Fault]:
    return [
        Fault(
            "config.trust",
            f"{key} is {value!r}: a file may not set it, for it lets other people's code run",
            f"remove it there; if you trust that code, give {key}=… on the command line",
            column=key,
        )
        for section in _TYPED_ONLY
        for key, value in _settings(_at(values, section), section)
        if value and key not in typed
    ]


def _settings(value: Any, key: str) -> list[tuple[str, Any]]:
    """What one override sets: a value or list, each entry of a mapping."""
    return [(f"{key}.{name}", inner) for name, inner in value.items()] if isinstance(value, Mapping) else [(key, value)]


def _hydra_targets(hydra: Mapping[str, Any], prefixes: Sequence[str]) -> list[Fault]:
    return [
        Fault(
            "config.target",
            f"{name!r} may not be used as a target",
            f"use a target below one of: {', '.join(prefixes)}; or trust yours with allow_targets=[my_package.]",
            column=key,
        )
        for key, name in _leaves(hydra, "hydra")
        if key.endswith("._target_") and not str(name).startswith(tuple(prefixes)) and not _searches(key, str(name))
    ]


def _searches(key: str, name: str) -> bool:
    """Whether `name` is one of Optuna's samplers or pruners, at its place."""
    return any(key.startswith(place) and form.fullmatch(name) is not None for place, form in _SEARCH.items())


def _unpickled(hydra: Mapping[str, Any], typed: Sequence[str]) -> list[Fault]:
    """CMA-ES keeps its state pickled in the study; so a file may not say whose study that is."""
    unpickles = any(str(name).endswith(".CmaEsSampler") for _, name in _leaves(_at(hydra, "sweeper.sampler"), ""))
    if not unpickles or not _at(hydra, "sweeper.storage") or "hydra.sweeper.storage" in typed:
        return []
    message = "hydra.sweeper.storage may not be set by a file for the sampler cmaes, which unpickles what is there"
    fix = "give hydra.sweeper.storage=… on the command line, or use another sampler"
    return [Fault("config.trust", message, fix, column="hydra.sweeper.storage")]


def _logging(hydra: Mapping[str, Any]) -> list[Fault]:
    """`logging.config` builds whatever `class` and `()` name, and imports whatever follows `ext://`."""
    sections = {f"hydra.{name}": hydra.get(name) for name in ("job_logging", "hydra_logging")}
    leaves = [leaf for key, section in sections.items() for leaf in _leaves(section, key)]
    wrong = [
        (key, value)
        for key, value in leaves
        if (key.endswith((".class", ".()")) and value not in _HANDLERS)
        or (str(value).startswith("ext://") and value not in _STREAMS)
        or str(value).startswith("cfg://")
    ]
    fix = f"use one of {', '.join(sorted(_HANDLERS))}, and ext://sys.stdout or ext://sys.stderr"
    return [
        Fault("config.target", f"{key} is {value!r}, which may not be used", fix, column=key) for key, value in wrong
    ]


def _at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{key}.{index}")
    else:
        yield key, value
