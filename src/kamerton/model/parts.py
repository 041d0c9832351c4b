"""Parts of a model by name: freezing some of them, and the faults of names that match nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from kamerton.errors import Fault
from kamerton.words import did_you_mean


def base_of(model: Any) -> Any:
    """Return the transformers model inside an adapter's, or the model itself where there is none."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def freeze_parts(model: nn.Module, patterns: Sequence[str]) -> None:
    """Take the weights that a pattern names out of training.

    A pattern is a run of whole steps of a weight's dotted name: `embed_tokens`, `layers.0-9` (both included),
    `layers.*.mlp`. Tied weights are one: freezing either freezes both.
    """
    for name, weight in model.named_parameters(remove_duplicate=False):
        if any(names_part(pattern, name) for pattern in patterns):
            weight.requires_grad_(False)


def names_part(pattern: str, name: str) -> bool:
    """Return whether `pattern` is a run of the dotted steps of `name`."""
    wanted, steps = pattern.split("."), name.split(".")
    starts = range(len(steps) - len(wanted) + 1)
    return any(all(map(_is_step, wanted, steps[start : start + len(wanted)])) for start in starts)


def _is_step(wanted: str, step: str) -> bool:
    span = re.fullmatch(r"(\d+)-(\d+)", wanted)
    if span:
        return step.isdecimal() and int(span[1]) <= int(step) <= int(span[2])
    return fnmatchcase(step, wanted)


def freeze_faults(model: nn.Module, patterns: Sequence[str]) -> list[Fault]:
    """Return Patterns that match nothing, and a freeze that leaves nothing to train."""
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    there = ", ".join(part_names(model))
    faults = [
        _fault("freeze", f"{pattern!r} names no part of the model", f"its parts are {there}")
        for pattern in patterns
        if not any(names_part(pattern, name) for name in names)
    ]
    if patterns and all(any(names_part(pattern, name) for pattern in patterns) for name in names):
        faults.append(_fault("freeze", "every weight is frozen", f"leave one of these out: {there}"))
    return faults


def layer_faults(model: nn.Module, targets: str | list[str], modules_to_save: Sequence[str]) -> list[Fault]:
    """Return Names of layers to adapt, or to train whole, that the model does not have (a text is a regular expression)."""
    names = [name for name, _ in model.named_modules() if name]
    linear = sorted({name.rpartition(".")[2] for name, layer in model.named_modules() if isinstance(layer, nn.Linear)})
    faults = []
    if isinstance(targets, str):
        if targets != "all-linear" and not any(re.fullmatch(targets, name) for name in names):
            there = ", ".join(linear)
            fix = f"give all-linear, a list of names from {there}, or an expression for whole names like {names[-1]}"
            faults.append(_fault("targets", f"{targets!r} matches no layer of the model", fix))
    else:
        faults += [_missing("targets", name, linear) for name in targets if not _ends_one(names, name)]
    ends = {name.rpartition(".")[2] for name in names}
    others = sorted(end for end in ends if not end.isdecimal())
    wrong = [name for name in modules_to_save if not _ends_one(names, name)]
    return [*faults, *(_missing("modules_to_save", name, others) for name in wrong)]


def part_names(model: nn.Module) -> Iterator[str]:
    """Yield the model's parts in short: its modules with weights, numbered ones as one range."""
    blocks: dict[str, list[int]] = {}
    for name, _ in model.named_parameters(remove_duplicate=False):
        before, number = _block(name)
        blocks.setdefault(before, []).extend([number] if number is not None else [])
    for part, numbers in blocks.items():
        yield f"{part}.{min(numbers)}-{max(numbers)}" if numbers else part


def _block(name: str) -> tuple[str, int | None]:
    """Return `model.layers.3.mlp.weight` as ("layers", 3); where no step is a number, the layer that holds the weight."""
    found = re.search(r"([^.]+)\.(\d+)\.", name)
    return (found[1], int(found[2])) if found else (name.split(".")[-2], None)


def _ends_one(names: Sequence[str], wanted: str) -> bool:
    return any(name == wanted or name.endswith(f".{wanted}") for name in names)


def _missing(key: str, name: str, there: Sequence[str]) -> Fault:
    return _fault(key, f"the model has no layer {name!r}", did_you_mean(name, there))


def _fault(key: str, message: str, fix: str) -> Fault:
    return Fault("adapter.layers", message, fix, column=f"adapter.{key}")
