"""The input of the checks in `trust.py`, and the fault of a refused value."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kamerton.config.foreign import Path, Setting
from kamerton.errors import Fault


@dataclass(frozen=True, slots=True)
class Judged:
    """A configuration with foreign files: the composed `values` and Hydra's section, resolved as far as possible.

    `unresolved` are the values with `${oc.env:NAME}` unresolved. `foreign` are the settings of foreign files; `typed`
    are the paths that the command line set, `choices` the groups whose option it chose, and `variables` the
    environment variables that it names.
    """

    values: Mapping[str, Any]
    hydra: Mapping[str, Any]
    foreign: Sequence[Setting] = ()
    unresolved: Mapping[str, Any] = field(default_factory=dict)
    typed: Collection[Path] = ()
    choices: Collection[str] = ()
    variables: Collection[str] = ()

    def is_typed(self, path: Path) -> bool:
        """Return whether a value was typed, directly or inside a list or mapping."""
        return any(path[: len(own)] == own for own in self.typed)

    def shown(self, path: Path) -> Any:
        """Return a value as it may be printed: environment variables by name."""
        return value_at(self.unresolved or self.values, path)


def refused(key: str, value: Any, reason: str, file: str | None = None) -> Fault:
    """Return the fault of a value that was not typed; `reason` is what it could cause."""
    fix = f"remove it there; if you trust it, give {key}=… on the command line"
    return Fault("config.trust", f"{key} is {value!r}: a file may not set it, because {reason}", fix, file, column=key)


def value_at(values: Any, path: Path) -> Any:
    """Return the value at a path, None if there is none."""
    for part in path:
        if isinstance(values, list) and part.isdecimal():
            values = values[int(part)]
        else:
            values = values.get(part) if isinstance(values, Mapping) else None
    return values
