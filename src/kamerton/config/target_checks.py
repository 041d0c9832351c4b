"""Faults of nodes that name a class (`_target_`): targets that are not allowed, and arguments that do not fit."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from kamerton.config.meant import nearest_key
from kamerton.config.targets import (
    ALLOWED,
    CALLED_WITH,
    RESERVED,
    REWARD_OPTIONS,
    REWARDS,
    TEXT_METRICS,
    call_faults,
    is_allowed,
    locate_class,
    locate_function,
    trusting,
)
from kamerton.errors import Fault

# Packages that an extra installs.
EXTRAS = {"bitsandbytes": "qlora", "deepspeed": "deepspeed", "schedulefree": "schedule-free"}

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

# Where to set what a node may not set itself: because `train` gives it, or does it another way.
INSTEAD = {
    "trainer.fast_dev_run": "debug=fast runs three steps of a small model, and writes everything a run writes",
    "trainer.overfit_batches": "debug=overfit, or trainer.limit_train_batches",
    "trainer.accumulate_grad_batches": "batch.size is a whole step; batch.max_tokens bounds the memory of a pass",
    "trainer.gradient_clip_val": "set clip_norm",
    "trainer.gradient_clip_algorithm": "set clip_norm, a bound of the gradient's 2-norm",
    "trainer.val_check_interval": "set eval.strategy and eval.every",
    "trainer.check_val_every_n_epoch": "set eval.strategy and eval.every",
    "trainer.callbacks": "set callbacks.NAME",
    "trainer.logger": "set logger.NAME",
    "trainer.default_root_dir": "set paths.outputs",
    "callbacks.checkpoint_last.every_n_train_steps": "set save.strategy and save.every",
    "callbacks.checkpoint_last.every_n_epochs": "set save.strategy and save.every",
}

# Where arguments go that a class passes on.
_PASSED_ON = {
    "pytorch_lightning.loggers.WandbLogger": "wandb.init",
    "pytorch_lightning.loggers.TensorBoardLogger": "torch.utils.tensorboard.SummaryWriter",
}


def check_targets(values: Mapping[str, Any], allowed: Sequence[str] = ()) -> list[Fault]:
    """Faults of every node with a `_target_`: not allowed, not found, or arguments that do not fit."""
    faults: list[Fault] = []
    for key, node in _nodes(values, ""):
        faults += _check_node(key, node, allowed)
    return faults


def _nodes(values: Any, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(values, Mapping):
        if "_target_" in values:
            yield key, values
        for name, inner in values.items():
            yield from _nodes(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list):
        for index, inner in enumerate(values):
            yield from _nodes(inner, f"{key}.{index}")


def _check_node(key: str, node: Mapping[str, Any], own: Sequence[str]) -> list[Fault]:
    """Faults of one node; `own` are the targets that the user trusts beyond the list."""
    name, where = node["_target_"], f"{key}._target_"
    is_metric, is_reward = key.startswith("metrics."), key.partition(".")[0] == "reward"
    allowed = (TEXT_METRICS, *own) if is_metric else (REWARDS, *own) if is_reward else (*ALLOWED, *own)
    if not is_allowed(name, allowed):
        fix = f"use a target below one of: {', '.join(allowed)}; or {trusting(name)}"
        return [Fault("config.target", f"{name!r} may not be used as a target", fix, column=where)]
    is_function = is_reward or (is_metric and is_allowed(name, own))
    try:
        target = locate_function(name) if is_function else locate_class(name)
    except ModuleNotFoundError as error:
        fix = _install(name, error)
        return [Fault("config.target", f"cannot find {name!r}: {error}", fix, column=where)]
    except (ImportError, AttributeError) as error:
        return [Fault("config.target", f"cannot find {name!r}: {error}", "correct the name", column=where)]
    except (Exception, SystemExit) as error:  # importing a module runs its code
        message = f"cannot import {name!r}: {type(error).__name__}: {error}"
        fix = f"correct the module: python -c 'import {name.rpartition('.')[0]}' shows where it fails"
        return [Fault("config.target", message, fix, column=where)]
    if is_function:
        kind = "reward" if is_reward else "metric"
        if unfit := call_faults(where, name, target, kind):
            return unfit
        target = partial(target, *CALLED_WITH[kind])  # what is left to give: the keys of the node
    if is_reward:
        node = {
            name: value
            for name, value in node.items()
            if name not in REWARD_OPTIONS and not (isinstance(value, Mapping) and "_target_" in value)  # another reward
        }
    return _check_arguments(key, node, target)


def _install(name: str, error: ModuleNotFoundError) -> str:
    """Return a fix for a target whose package, or one that it imports, is missing."""
    missing = "" if error.name is None or name.startswith(error.name) else error.name.partition(".")[0]
    package = missing or name.partition(".")[0]
    if package in EXTRAS and importlib.util.find_spec(package) is None:
        return f"pip install 'kamerton[{EXTRAS[package]}]'"
    if missing:
        return f"pip install {missing}"
    if importlib.util.find_spec(package) is None:
        return f"put the folder of {package} in PYTHONPATH (PYTHONPATH=. if it is the current one), or correct the name"
    return "correct the name"


def _check_arguments(key: str, node: Mapping[str, Any], target: Any) -> list[Fault]:
    parameters = _parameters(target)
    if parameters is None:
        return []  # no signature to check against
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    valid = [name for name in parameters if name not in ("self", "args", "kwargs")]
    faults = [*_check_given(key, node)]
    for name, value in node.items():
        if name in RESERVED:
            continue
        if name in parameters:
            faults += _check_type(f"{key}.{name}", value, parameters[name].annotation)
        elif not open_ended:
            message = f"unknown configuration key '{key}.{name}': {node['_target_']} has no such argument"
            faults.append(
                Fault("config.key", message, nearest_key(str(name), valid, top=False), column=f"{key}.{name}")
            )
    refused = [name for name in GIVEN.get(key, ()) if name not in parameters and not open_ended]
    if refused:
        message = f"{node['_target_']} cannot be used at {key}: it has no argument {refused[0]}"
        faults.append(Fault("config.target", message, "give it its own name", column=f"{key}._target_"))
    return [*faults, *_check_missing(key, node, parameters)]


def _check_given(key: str, node: Mapping[str, Any]) -> list[Fault]:
    """Faults of arguments that a run sets itself, or that do not fit its optimizer steps."""
    # accumulate_grad_batches=1 sets nothing
    places = {
        f"{key}.{name}": value for name, value in node.items() if value is not None and (value is True or value != 1)
    }
    set_by_run = {f"{key}.{name}": "remove it" for name in GIVEN.get(key, ())}
    return [
        Fault(
            "config.value",
            f"{place} is {value!r}, but a run sets it itself",
            INSTEAD.get(place, set_by_run.get(place, "")),
            column=place,
        )
        for place, value in places.items()
        if place in set_by_run or place in INSTEAD
    ]


def _check_missing(key: str, node: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]) -> list[Fault]:
    present = {*node, *GIVEN.get(key, ())}
    return [
        Fault(
            "config.missing",
            f"{key}.{name} is not set, and {node['_target_']} needs it",
            f"set {key}.{name}=…",
            column=f"{key}.{name}",
        )
        for name, parameter in parameters.items()
        if name not in present
        and parameter.default is parameter.empty
        and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]


def _parameters(target: Any) -> dict[str, inspect.Parameter] | None:
    """Return the parameters of a class, with those it passes on to a known function; None without a signature."""
    try:
        parameters = dict(_signature(target).parameters)
    except (TypeError, ValueError):
        return None
    module, name = (getattr(target, part, "") for part in ("__module__", "__name__"))
    passed_on = _PASSED_ON.get(f"{module.rpartition('.')[0]}.{name}")
    if passed_on is None:
        return parameters
    module, _, name = passed_on.rpartition(".")
    try:
        inner = inspect.signature(getattr(importlib.import_module(module), name), eval_str=True).parameters
    except (ImportError, NameError):
        return parameters
    own = {name: parameter for name, parameter in parameters.items() if parameter.kind is not parameter.VAR_KEYWORD}
    return {**{name: parameter for name, parameter in inner.items() if name != "self"}, **own}


def _signature(target: Any) -> inspect.Signature:
    """Return the signature with its annotations evaluated, if they can be: some name what only type checkers import."""
    try:
        return inspect.signature(target, eval_str=True)
    except Exception:  # annotations may be any code
        return inspect.signature(target)


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
