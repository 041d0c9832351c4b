"""Nodes that name a class (`_target_`): which may be named, whether their arguments fit, and building them.

This is the only place that turns a name from a configuration into something callable.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from kamerton.errors import Fault
from kamerton.words import did_you_mean

ALLOWED = (
    "kamerton.train.callbacks.",
    "kamerton.train.checkpoints.",
    "kamerton.train.metrics_file.",
    "kamerton.train.strategies.",
    "kamerton.train.throughput.",
    "kamerton.train.zero.",
    "pytorch_lightning.Trainer",
    "pytorch_lightning.callbacks.",
    "pytorch_lightning.loggers.",
    "pytorch_lightning.plugins.",
    "pytorch_lightning.profilers.",
    "pytorch_lightning.strategies.",
    "torch.optim.",
    "torchmetrics.",
    "transformers.optimization.",
)
_RESERVED = {"_target_", "_partial_"}

# Arguments that `train` itself gives to a node, by the node's key.
GIVEN = {
    "optimizer": ("params",),
    "trainer": (
        *("callbacks", "logger", "plugins", "default_root_dir", "val_check_interval", "check_val_every_n_epoch"),
    ),
    "logger.csv": ("folder", "step"),
    "logger.wandb": ("save_dir", "id", "config"),
    "logger.tensorboard": ("save_dir",),
    "callbacks.checkpoint_best": ("dirpath",),
    "callbacks.checkpoint_last": ("dirpath", "every_n_train_steps"),
    "callbacks.throughput": ("run",),
}


def check_targets(values: Mapping[str, Any], allowed: Sequence[str] = ()) -> list[Fault]:
    """Faults of every node with a `_target_`: not allowed, not there, or arguments that do not fit."""
    faults: list[Fault] = []
    for key, node in _nodes(values, ""):
        faults += _check_node(key, node, (*ALLOWED, *allowed))
    return faults


def instantiate(node: Mapping[str, Any], allowed: Sequence[str] = (), **given: Any) -> Any:
    """Build what `node` names, inner nodes first; with `_partial_: true` a callable that builds it.

    Raises `PermissionError` for a target outside the allow-list.
    """
    name = node["_target_"]
    if not _is_allowed(name, (*ALLOWED, *allowed)):
        raise PermissionError(f"{name} is not in the allow-list of targets")
    arguments = {key: _build(value, allowed) for key, value in node.items() if key not in _RESERVED} | given
    target = _locate(name)
    return partial(target, **arguments) if node.get("_partial_") else target(**arguments)


def _build(value: Any, allowed: Sequence[str]) -> Any:
    if isinstance(value, Mapping):
        if "_target_" in value:
            return instantiate(value, allowed)
        return {key: _build(inner, allowed) for key, inner in value.items()}
    return [_build(inner, allowed) for inner in value] if isinstance(value, list) else value


def _nodes(values: Any, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(values, Mapping):
        if "_target_" in values:
            yield key, values
        for name, inner in values.items():
            yield from _nodes(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list):
        for index, inner in enumerate(values):
            yield from _nodes(inner, f"{key}.{index}")


def _is_allowed(name: object, allowed: Sequence[str]) -> bool:
    return isinstance(name, str) and any(
        name == prefix or (prefix.endswith(".") and name.startswith(prefix)) for prefix in allowed
    )


def _locate(name: str) -> Any:
    """The class behind `module.Class`, defined in the package it is named in. Functions, and whatever lies behind a
    module that another one has merely imported (`allowed.module.torch.hub.load`), are not found.
    """
    parts = name.split(".")
    for size in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:size]))
        except ModuleNotFoundError as error:
            if error.name and not name.startswith(error.name):
                raise
            continue
        found = getattr(found, parts[-1], None) if size == len(parts) - 1 else None
        if not inspect.isclass(found) or found.__module__.partition(".")[0] != parts[0]:
            raise AttributeError(f"{'.'.join(parts[:size])} does not define it as a class")
        return found
    raise ModuleNotFoundError(f"no module holds {name}")


def _check_node(key: str, node: Mapping[str, Any], allowed: Sequence[str]) -> list[Fault]:
    name, where = node["_target_"], f"{key}._target_"
    if not _is_allowed(name, allowed):
        fix = f"use a target below one of: {', '.join(allowed)}; or trust yours with allow_targets=[my_package.]"
        return [Fault("config.target", f"{name!r} may not be used as a target", fix, column=where)]
    try:
        target = _locate(name)
    except ModuleNotFoundError as error:
        missing = "" if error.name is None or name.startswith(error.name) else error.name
        fix = f"pip install {missing.partition('.')[0]}" if missing else "correct the name"
        return [Fault("config.target", f"cannot find {name!r}: {error}", fix, column=where)]
    except (ImportError, AttributeError) as error:
        return [Fault("config.target", f"cannot find {name!r}: {error}", "correct the name", column=where)]
    return _check_arguments(key, node, target)


def _check_arguments(key: str, node: Mapping[str, Any], target: Any) -> list[Fault]:
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return []  # no signature to check against
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    known = [name for name in parameters if name not in ("self", "args", "kwargs")]
    faults = []
    for name, value in node.items():
        if name in _RESERVED:
            continue
        if name in parameters:
            faults += _check_type(f"{key}.{name}", value, parameters[name].annotation)
        elif not open_ended:
            message = f"unknown configuration key '{key}.{name}': {node['_target_']} has no such argument"
            faults.append(Fault("config.key", message, did_you_mean(name, known), column=f"{key}.{name}"))
    given = {*node, *GIVEN.get(key, ())}
    for name, parameter in parameters.items():
        if (
            name not in given
            and parameter.default is parameter.empty
            and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ):
            message = f"{key}.{name} is not set, and {node['_target_']} needs it"
            faults.append(Fault("config.missing", message, f"set {key}.{name}=…", column=f"{key}.{name}"))
    return faults


def _check_type(key: str, value: Any, annotation: Any) -> list[Fault]:
    if annotation is inspect.Parameter.empty or isinstance(annotation, str) or isinstance(value, Mapping | list):
        return []
    try:
        TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        message = f"{key} is {value!r}: {reason[:1].lower()}{reason[1:]}"
        return [Fault("config.value", message, f"correct the value of {key}", column=key)]
    except (PydanticUserError, TypeError, NameError):
        return []  # an annotation that pydantic cannot read, such as a class of Lightning
    return []
