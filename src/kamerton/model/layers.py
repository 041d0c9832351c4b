"""Selecting layers and weights by name: freezing them, and faults of names that match nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from kamerton.errors import Fault
from kamerton.words import did_you_mean


def base_of(model: Any) -> Any:
    """Return the transformers model inside an adapter's model, or the model itself without an adapter."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def freeze_parts(model: nn.Module, patterns: Sequence[str]) -> None:
    """Freeze the weights that match a pattern.

    A pattern is a sequence of components of a weight's dotted name: `embed_tokens`, `layers.0-9` (both included),
    `layers.*.mlp`. Freezing one of two tied weights freezes both.
    """
    for name, weight in model.named_parameters(remove_duplicate=False):
        if any(names_part(pattern, name) for pattern in patterns):
            weight.requires_grad_(False)


def names_part(pattern: str, name: str) -> bool:
    """Return whether `pattern` matches consecutive components of the dotted `name`."""
    patterns, components = pattern.split("."), name.split(".")
    starts = range(len(components) - len(patterns) + 1)
    return any(all(map(_matches, patterns, components[start : start + len(patterns)])) for start in starts)


def _matches(pattern: str, component: str) -> bool:
    span = re.fullmatch(r"(\d+)-(\d+)", pattern)
    if span:
        return component.isdecimal() and int(span[1]) <= int(component) <= int(span[2])
    return fnmatchcase(component, pattern)


def freeze_faults(model: nn.Module, patterns: Sequence[str]) -> list[Fault]:
    """Return a fault for each pattern that matches nothing, and one if all weights are frozen."""
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    parts = ", ".join(part_names(model))
    faults = [
        _fault("freeze", f"{pattern!r} matches no part of the model", f"its parts are {parts}")
        for pattern in patterns
        if not any(names_part(pattern, name) for name in names)
    ]
    if patterns and all(any(names_part(pattern, name) for pattern in patterns) for name in names):
        faults.append(_fault("freeze", "every weight is frozen", f"leave one of these out: {parts}"))
    return faults


def layer_faults(model: nn.Module, targets: str | list[str], modules_to_save: Sequence[str]) -> list[Fault]:
    """Return a fault for each layer to adapt, or to train fully, that the model does not have.

    `targets` is all-linear, a list of names, or a regular expression for full names.
    """
    names = [name for name, _ in model.named_modules() if name]
    linear = sorted({name.rpartition(".")[2] for name, layer in model.named_modules() if isinstance(layer, nn.Linear)})
    faults = []
    if isinstance(targets, str):
        if targets != "all-linear" and not any(re.fullmatch(targets, name) for name in names):
            names_fix = f"a list of names from {', '.join(linear)}"
            fix = f"give all-linear, {names_fix}, or an expression for whole names like {names[-1]}"
            faults.append(_fault("targets", f"{targets!r} matches no layer of the model", fix))
    else:
        faults += [_missing_layer("targets", name, linear) for name in targets if not _is_suffix(name, names)]
    ends = {name.rpartition(".")[2] for name in names}
    layers = sorted(end for end in ends if not end.isdecimal())
    missing = [name for name in modules_to_save if not _is_suffix(name, names)]
    return [*faults, *(_missing_layer("modules_to_save", name, layers) for name in missing)]


def part_names(model: nn.Module) -> Iterator[str]:
    """Yield short names of the model's parts: its modules with weights, numbered ones as a range (`layers.0-27`)."""
    blocks: dict[str, list[int]] = {}
    for name, _ in model.named_parameters(remove_duplicate=False):
        numbered = re.search(r"([^.]+)\.(\d+)\.", name)
        if numbered:
            blocks.setdefault(numbered[1], []).append(int(numbered[2]))
        else:
            blocks.setdefault(name.split(".")[-2], [])
    for part, numbers in blocks.items():
        yield f"{part}.{min(numbers)}-{max(numbers)}" if numbers else part


def _is_suffix(suffix: str, names: Sequence[str]) -> bool:
    return any(name == suffix or name.endswith(f".{suffix}") for name in names)


def _missing_layer(key: str, name: str, layers: Sequence[str]) -> Fault:
    return _fault(key, f"the model has no layer {name!r}", did_you_mean(name, layers))


def _fault(key: str, message: str, fix: str) -> Fault:
    return Fault("adapter.layers", message, fix, column=f"adapter.{key}")
