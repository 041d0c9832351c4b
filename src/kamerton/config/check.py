"""All faults of a composed configuration at once, each with the nearest valid key."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from kamerton.config.meant import nearest_key
from kamerton.config.origin import PRESETS
from kamerton.config.places import check_places
from kamerton.config.schema import Config, mapping_at
from kamerton.config.targets import allow_list_faults
from kamerton.config.training import check_training
from kamerton.data.option_checks import check_data_options, check_split_options
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.errors import Fault
from kamerton.words import did_you_mean

Path = tuple[str, ...]
_T = TypeVar("_T")

_type_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)

MISSING = "???"  # how a configuration file marks a value that must be given


@cache
def _section_adapter(kind: Any) -> TypeAdapter[Any]:
    # In a tuple: a dataclass alone would not take the configuration's rules.
    return TypeAdapter(tuple[kind], config=Config.__pydantic_config__)  # type: ignore[attr-defined]


def to_config(values: Mapping[str, Any]) -> Config:
    """Return the typed configuration of valid plain values."""
    return to_options(Config, values)


def to_options(schema: type[_T], values: Mapping[str, Any]) -> _T:
    """Return the options of another command, a dataclass, from valid plain values."""
    kind: Any = schema
    options: _T = _type_adapter(kind).validate_python(dict(values))
    return options


def section(kind: type[_T], values: Mapping[str, Any], key: str) -> _T | None:
    """Return one section of plain values as `to_config` reads it, None if it has faults.

    `validate` reports those faults, and unknown keys, which are left out here.
    """
    valid = {item.name for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    fields = values.get(key) or {}
    if isinstance(fields, Mapping):
        fields = {name: value for name, value in fields.items() if name in valid}
    if any(value == MISSING for _, value in leaves(fields)):
        return None
    try:
        (options,) = _section_adapter(kind).validate_python((fields,))  # type: ignore[arg-type]
    except ValidationError:
        return None
    return options  # type: ignore[no-any-return]


def check_values(values: Mapping[str, Any]) -> list[Fault]:
    """Unknown keys, wrong types and impossible values of the project's own sections."""
    return [*validate(values, Config)[1], *check_config(values)]


def check_config(values: Mapping[str, Any]) -> list[Fault]:
    """Faults of a training's configuration beyond its schema; values of a wrong type are reported by that."""
    data, split = section(DataOptions, values, "data"), section(SplitOptions, values, "split")
    return [
        *check_places(values),
        *allow_list_faults(values.get("allow_targets")),
        *(check_data_options(data) if data else []),
        *(check_split_options(split) if split else []),
        *_check_classes(values),
        *check_nodes(values),
        *check_training(values),
    ]


def validate(values: Mapping[str, Any], schema: type[_T]) -> tuple[_T | None, list[Fault]]:
    """Validate plain values by a dataclass of options; return them typed, None if they have faults, and the faults.

    There is one fault a key; values left as ??? and booleans in place of numbers are faults as well.
    """
    unset = [key for key, value in leaves(values) if value == MISSING]
    faults = [Fault("config.missing", f"{key} is not set", f"add {key}=…", column=key) for key in unset]
    try:
        options = to_options(schema, values)
    except ValidationError as error:
        by_key: dict[str, Fault] = {}
        for detail in error.errors(include_url=False):
            fault = _fault(detail, values, schema)
            earlier = by_key.get(fault.column or "")
            message = f"{earlier.message}; or {fault.message.partition(': ')[2]}" if earlier else fault.message
            by_key[fault.column or ""] = replace(fault, message=message)
        return None, [*faults, *(fault for key, fault in by_key.items() if key not in unset)]
    read = dict(leaves(dataclasses.asdict(options)))  # type: ignore[call-overload]
    faults += [
        Fault("config.value", f"{key} is {value!r}, not a number", f"correct the value of {key}", column=key)
        for key, value in leaves(values)
        if isinstance(value, bool) and key in read and type(read[key]) in (int, float)
    ]
    return None if faults else options, faults


def leaves(values: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value that is neither a section nor a list, with its dotted key."""
    if isinstance(values, Mapping):
        for name, inner in values.items():
            yield from leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list):
        for index, inner in enumerate(values):
            yield from leaves(inner, f"{key}.{index}")
    else:
        yield key, values


def _fault(detail: Any, values: Mapping[str, Any], schema: Any) -> Fault:
    path = tuple(str(part) for part in detail["loc"])
    if detail["type"] == "unexpected_keyword_argument":
        fix = nearest_key(path[-1], _keys_at(path[:-1], schema), detail["input"], top=len(path) == 1)
        if len(path) == 1 and path[0] in PRESETS:  # Hydra put the content of the file below its group's name
            fix = "begin the file with the line: # @package _global_"
        key = ".".join(path)
        return Fault("config.key", f"unknown configuration key {key!r}", fix, column=key)
    if detail["type"] == "missing":
        key = ".".join(path)
        return Fault("config.missing", f"{key} is not set", f"set {key}=…", column=key)
    key = ".".join(_written(path, values))
    reason = detail["msg"][:1].lower() + detail["msg"][1:]
    fix = f"correct the value of {key}"
    return Fault("config.value", f"{key} is {detail['input']!r}: {reason}", fix, column=key)


def _written(path: Path, values: Any) -> Path:
    """Return the part of a path that the user wrote, without the union members that pydantic adds."""
    for size, part in enumerate(path):
        if isinstance(values, list) and part.isdecimal() and int(part) < len(values):
            values = values[int(part)]
        elif isinstance(values, Mapping) and part in values:
            values = values[part]
        else:
            return path[:size]
    return path


def _keys_at(path: Path, schema: Any) -> list[str]:
    """Valid keys of the section at `path`."""
    section: Any = schema
    for part in path:
        hints = typing.get_type_hints(section) if dataclasses.is_dataclass(section) else {}
        inside = typing.get_args(section)[1] if typing.get_origin(section) is dict else hints.get(part)
        if isinstance(inside, types.UnionType):
            inside = next((member for member in typing.get_args(inside) if dataclasses.is_dataclass(member)), None)
        section = inside
    return [item.name for item in dataclasses.fields(section)] if dataclasses.is_dataclass(section) else []


def check_classes(values: Mapping[str, Any], groups: Sequence[str]) -> list[Fault]:
    """Faults of entries without a `_target_`: most often the misspelt name of an entry that has one."""
    faults = []
    for group in groups:
        entries = mapping_at(values, group)
        valid = [name for name, node in entries.items() if node is None or _names_class(node)]
        faults += [
            Fault(
                "config.key",
                f"unknown configuration key '{group}.{name}': it has no _target_",
                f"{did_you_mean(str(name), valid)}; a new one needs {group}.{name}._target_=…",
                column=f"{group}.{name}",
            )
            for name, node in entries.items()
            if isinstance(node, Mapping) and not _names_class(node)
        ]
    return faults


def _check_classes(values: Mapping[str, Any]) -> list[Fault]:
    """Faults of a run's nodes without a `_target_`."""
    groups = ["callbacks", "logger", "metrics"]
    if not _names_class(values.get("reward")):  # else its other keys are arguments
        groups.append("reward")
    faults = check_classes(values, groups)
    for key in ("optimizer", "trainer"):
        if isinstance(values.get(key), Mapping) and not _names_class(values[key]):
            fix = f"choose one of the options of {key}, or set {key}._target_=…"
            faults.append(Fault("config.missing", f"{key} has no _target_", fix, column=key))
    if "csv" in (logger := mapping_at(values, "logger")) and logger["csv"] is None:
        fix = "leave logger.csv as it is; logger=csv has no other logger"
        faults.append(Fault("config.value", "logger.csv cannot be removed: reports read it", fix, column="logger.csv"))
    return faults


def _names_class(node: Any) -> bool:
    return isinstance(node, Mapping) and node.get("_target_") is not None


def check_nodes(values: Mapping[str, Any]) -> list[Fault]:
    """Faults of values beyond bounds that the signature of an optimizer or the trainer does not state."""
    optimizer, trainer = mapping_at(values, "optimizer"), mapping_at(values, "trainer")
    steps, epochs = trainer.get("max_steps", -1), trainer.get("max_epochs", None if trainer else 1)
    decay, limit = optimizer.get("weight_decay", 0), trainer.get("limit_train_batches")
    checks = [
        ("optimizer.weight_decay", decay, decay == 0 or _is_number(decay, above=0), "must be 0 or more"),
        (
            "trainer.max_epochs",
            epochs,
            _is_count(epochs) or (epochs == -1 and _is_count(steps)),
            "must be a whole number above 0, or with trainer.max_steps also -1 for no limit",
        ),
        (
            "trainer.max_steps",
            steps,
            steps == -1 or _is_count(steps),
            "must be a whole number above 0, or -1 for no limit",
        ),
        (
            "trainer.limit_train_batches",
            limit,
            limit is None or _is_count(limit) or (isinstance(limit, float) and 0 < limit <= 1),
            "must be a number of steps, or a share of them above 0 and at most 1.0",
        ),
    ]
    if "lr" in optimizer:
        lr = optimizer["lr"]
        checks.append(("optimizer.lr", lr, _is_number(lr, above=0), "must be a positive number"))
    return [
        Fault("config.value", f"{key} is {value!r} but {rule}", f"correct the value of {key}", column=key)
        for key, value, good, rule in checks
        if not good and value != MISSING
    ]


def _is_number(value: object, *, above: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > above


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
