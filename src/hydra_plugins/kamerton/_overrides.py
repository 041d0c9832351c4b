"""Values as overrides: text that Hydra's grammar reads back into the same value of the same type."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import CompactHydraException

from hydra_plugins.kamerton._internals import grammar_functions

_WORD = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)
_NO_WORDS = {"true", "false", "null", "nan", "inf"}
_SPECIAL = re.compile(r"[\\()\[\]{}:=, \t]")

# Hydra's grammar reads `a=null,1`, but refuses null as an argument: its annotations name the types a function accepts.
for _function in (grammar_functions.choice, grammar_functions.shuffle):
    _function.__annotations__["args"] = _function.__annotations__["args"] | None


class SweepError(CompactHydraException):
    """A sweep cannot start or continue; the message gives a fix."""


class SweepFailed(SweepError):  # noqa: N818 (it names the end of a sweep)
    """Every trial of a sweep failed, or `max_failures` of a worker. `_results.finished` has the sweep nevertheless, and
    its files are written.
    """


def override(key: str, value: Any) -> str:
    """Return `key=value` in Hydra's grammar."""
    return f"{key}={override_value(value)}"


def override_value(value: Any) -> str:
    """Return a value as text that Hydra's grammar reads back with its type."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        is_word = _WORD.fullmatch(value) and value.lower() not in _NO_WORDS
        return value if is_word else QuotedString(value, Quote.single).with_quotes()
    if isinstance(value, Mapping):
        keys = (_SPECIAL.sub(r"\\\g<0>", key) if isinstance(key, str) else override_value(key) for key in value)
        items = map(override_value, value.values())
        return "{" + ",".join(f"{key}:{item}" for key, item in zip(keys, items, strict=True)) + "}"
    if isinstance(value, Iterable):
        return "[" + ",".join(map(override_value, value)) + "]"
    raise SweepError(f"{value!r} cannot be written as an override")
