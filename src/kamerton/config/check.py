"""Everything that is wrong with a composed configuration, at once, as faults with the nearest valid key."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from kamerton.config.schema import Config
from kamerton.config.training import check_training
from kamerton.data.options import DataOptions, SplitOptions, check_data_options, check_split_options
from kamerton.errors import Fault
from kamerton.words import did_you_mean

Path = tuple[str, ...]


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[Config]:
    return TypeAdapter(Config)


def to_config(values: Mapping[str, Any]) -> Config:
    """The typed configuration behind checked plain values."""
    return _adapter().validate_python(dict(values))


def check_values(values: Mapping[str, Any]) -> list[Fault]:
    """Unknown keys, wrong types and impossible values of the project's own sections."""
    faults = []
    try:
        to_config(values)
    except ValidationError as error:
        faults = [_fault(detail) for detail in error.errors(include_url=False)]
    return [*faults, *_check_names(values), *_check_data(values), *_check_nodes(values), *check_training(values)]


def _fault(detail: Any) -> Fault:
    path = tuple(str(part) for part in detail["loc"])
    key = ".".join(path)
    if detail["type"] == "unexpected_keyword_argument":
        fix = did_you_mean(path[-1], _keys_at(path[:-1]))
        return Fault("config.key", f"unknown configuration key {key!r}", fix, column=key)
    if detail["type"] == "missing":
        return Fault("config.missing", f"{key} is not set", f"set {key}=…", column=key)
    reason = detail["msg"][:1].lower() + detail["msg"][1:]
    fix = f"correct the value of {key}"
    return Fault("config.value", f"{key} is {detail['input']!r}: {reason}", fix, column=key)


def _keys_at(path: Path) -> list[str]:
    """Valid keys of the section at `path`."""
    section: Any = Config
    for part in path:
        hints = typing.get_type_hints(section) if dataclasses.is_dataclass(section) else {}
        inside = typing.get_args(section)[1] if typing.get_origin(section) is dict else hints.get(part)
        section = _plain(inside)
    return [item.name for item in dataclasses.fields(section)] if dataclasses.is_dataclass(section) else []


def _plain(hint: Any) -> Any:
    """The dataclass among a union's members, if there is one."""
    if isinstance(hint, types.UnionType):
        return next((member for member in typing.get_args(hint) if dataclasses.is_dataclass(member)), None)
    return hint


def _check_names(values: Mapping[str, Any]) -> list[Fault]:
    """`name` and `run_id` become folders: one each, below `paths.outputs`."""
    rule = "letters, digits and . _ - only, not beginning with a dot"
    return [
        Fault("config.value", f"{key} is {values[key]!r}: {rule}", f"correct the value of {key}", column=key)
        for key in ("name", "run_id")
        if values.get(key) is not None and not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", str(values[key]))
    ]


def _check_data(values: Mapping[str, Any]) -> list[Fault]:
    """What the data room says of its own options; wrong types have been said already."""
    faults: list[Fault] = []
    with contextlib.suppress(ValidationError):
        faults += check_data_options(TypeAdapter(DataOptions).validate_python(dict(values.get("data") or {})))
    with contextlib.suppress(ValidationError):
        faults += check_split_options(TypeAdapter(SplitOptions).validate_python(dict(values.get("split") or {})))
    return faults


def _check_nodes(values: Mapping[str, Any]) -> list[Fault]:
    """Bounds that the signature of an optimizer or the trainer does not state."""
    optimizer, trainer = values.get("optimizer") or {}, values.get("trainer") or {}
    steps, epochs = trainer.get("max_steps", -1), trainer.get("max_epochs", 1)
    lr, decay = optimizer.get("lr"), optimizer.get("weight_decay", 0)
    checks = [
        ("optimizer.lr", lr, _is_number(lr, above=0), "must be a positive number"),
        ("optimizer.weight_decay", decay, decay == 0 or _is_number(decay, above=0), "must be 0 or more"),
        ("trainer.max_epochs", epochs, _is_count(epochs), "must be a whole number above 0"),
        (
            "trainer.max_steps",
            steps,
            steps == -1 or _is_count(steps),
            "must be a whole number above 0, or -1 for no limit",
        ),
    ]
    return [
        Fault("config.value", f"{key} is {value!r} but {rule}", f"correct the value of {key}", column=key)
        for key, value, good, rule in checks
        if not good
    ]


def _is_number(value: object, *, above: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > above


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
