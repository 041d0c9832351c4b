"""Nodes that name a class (`_target_`): which may be named, whether their arguments fit, and building them.

This is the only place that turns a name from a configuration into something callable.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any

from kamerton.errors import Fault, UserError

ALLOWED = (
    "bitsandbytes.optim.",
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
    "schedulefree.",
    "torch.optim.",
    "torchmetrics.",
    "transformers.optimization.",
)
RESERVED = {"_target_", "_partial_"}


def instantiate(node: Mapping[str, Any], allowed: Sequence[str] = (), **extra: Any) -> Any:
    """Build what `node` names, inner nodes first; with `_partial_: true` return a callable that builds it.

    Raises `PermissionError` for a target outside the allow-list.
    """
    name = node["_target_"]
    if not is_allowed(name, (*ALLOWED, *allowed)):
        raise PermissionError(f"{name} is not in the allow-list of targets")
    arguments = {key: _build(value, allowed) for key, value in node.items() if key not in RESERVED} | extra
    target = locate_class(name)
    return partial(target, **arguments) if node.get("_partial_") else target(**arguments)


def metric_function(node: Mapping[str, Any], allowed: Sequence[str] = ()) -> Callable[[Any], Any]:
    """Return the function of a score table that a node below `metrics` names, with its other keys as arguments.

    Functions are found in packages of `allowed` alone, which the user trusts by name; of a class below
    `torchmetrics.text` it is the value over predictions and targets. An attribute `higher_is_better` of what is named,
    which torchmetrics' classes have, is copied to the function. Raises `UserError` for any other name.
    """
    name = node["_target_"]
    arguments = {key: value for key, value in node.items() if key not in RESERVED}
    if is_allowed(name, allowed):
        located = locate_function(name)
        return _with_direction(partial(located, **arguments), located)
    if not is_allowed(name, (TEXT_METRICS,)):
        message = f"{name!r} may not be used as a metric"
        raise UserError([Fault("config.target", message, trusting(name), column="metrics")])
    metric = locate_class(name)(**arguments)

    def of_texts(table: Any) -> Any:
        metric.reset()
        metric.update([text or "" for text in table["prediction"].to_pylist()], table["target"].to_pylist())
        return metric.compute()

    return _with_direction(of_texts, metric)


def _with_direction(function: Any, named: Any) -> Callable[[Any], Any]:
    function.higher_is_better = getattr(named, "higher_is_better", None)
    return function  # type: ignore[no-any-return]


TEXT_METRICS = "torchmetrics.text."
REWARDS = "kamerton.objective.rewards."
CALLED_WITH = {"reward": ("prompt", "completion", "reference", "metadata"), "metric": ("table",)}
REWARD_OPTIONS = ("weight", "timeout")  # keys of a reward that are no arguments of its function


def _build(value: Any, allowed: Sequence[str]) -> Any:
    if isinstance(value, Mapping):
        if "_target_" in value:
            return instantiate(value, allowed)
        return {key: _build(inner, allowed) for key, inner in value.items()}
    return [_build(inner, allowed) for inner in value] if isinstance(value, list) else value


def trusting(name: Any) -> str:
    """Return the fix that allows a target: the setting that trusts its package."""
    package = str(name).partition(".")[0]
    return f"trust that code with 'allow_targets=[{package if package.isidentifier() else 'my_package'}.]'"


def allow_list_faults(entries: Any) -> list[Fault]:
    """Return a fault for each entry of `allow_targets` that no target can match, such as `*`."""
    fix = "name each package that you trust, with a dot at its end: 'allow_targets=[my_rewards.]'"
    return [
        Fault("config.value", f"allow_targets has {entry!r}, which matches nothing", fix, column="allow_targets")
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, str) and not all(part.isidentifier() for part in entry.removesuffix(".").split("."))
    ]


def is_allowed(name: object, allowed: Sequence[str]) -> bool:
    """Whether a target is one of `allowed`, or below one of those that end with a dot."""
    return isinstance(name, str) and any(
        name == prefix or (prefix.endswith(".") and name.startswith(prefix)) for prefix in allowed
    )


def locate_class(name: str) -> Any:
    """The class behind `module.Class`, defined in the package it is named in. Functions, and whatever lies behind a
    module that another one has merely imported (`allowed.module.torch.hub.load`), are not found.
    """
    module, _, attribute = name.rpartition(".")
    if not module:
        raise ImportError("write module.Class")
    target = getattr(importlib.import_module(module), attribute, None)
    if not inspect.isclass(target) or target.__module__.partition(".")[0] != name.partition(".")[0]:
        raise AttributeError(f"{module} does not define it as a class")
    return target


def locate_function(name: str) -> Any:
    """The function or class behind `module.name`, defined in the package it is named in."""
    module, _, attribute = name.rpartition(".")
    target = getattr(importlib.import_module(module), attribute, None) if module else None
    if not callable(target) or getattr(target, "__module__", "").partition(".")[0] != name.partition(".")[0]:
        raise AttributeError(f"{module} does not define it as a function")
    return target


def call_faults(where: str, name: str, target: Any, kind: str) -> list[Fault]:
    """Return a fault if a function cannot be called as a reward or metric (`kind`); its keys are checked later."""
    if any(is_lazy(target) for is_lazy in (iscoroutinefunction, isgeneratorfunction, isasyncgenfunction)):
        message = f"{name} cannot be a {kind}: it is async or yields, so a call returns no number"
        return [Fault("config.target", message, "define it with def and return", column=where)]
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        return []  # no signature to check against
    try:
        signature.bind_partial(*CALLED_WITH[kind])
    except TypeError as error:
        given = ", ".join(CALLED_WITH[kind])
        message = f"{name} cannot be a {kind}, which is called with ({given}): {error}"
        fix = f"define it as {name.rpartition('.')[2]}({given}); further keys of the {kind} come after that"
        return [Fault("config.target", message, fix, column=where)]
    return []
