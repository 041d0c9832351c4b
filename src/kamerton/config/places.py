"""Output paths: names that become folders, and the folder they are made in."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kamerton.config.schema import mapping_at
from kamerton.errors import Fault

NAME = "[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}"
NAME_RULE = "letters, digits and . _ - only, not beginning with a dot, at most 100"


def check_places(values: Mapping[str, Any]) -> list[Fault]:
    """Faults of `name`, `run_id` and `paths.outputs`; creates nothing."""
    return [*_check_names(values), *_check_outputs(values)]


def _check_names(values: Mapping[str, Any]) -> list[Fault]:
    """Faults of `name` and `run_id`, which become folders below `paths.outputs`."""
    return [
        Fault("config.value", f"{key} is {values[key]!r}: {NAME_RULE}", f"correct the value of {key}", column=key)
        for key in ("name", "run_id")
        if values.get(key) is not None and not re.fullmatch(NAME, str(values[key]))
    ]


def _check_outputs(values: Mapping[str, Any]) -> list[Fault]:
    outputs = mapping_at(values, "paths").get("outputs")
    if not isinstance(outputs, str) or outputs == "???":
        return []  # reported by the schema
    fix = "give a folder that can be written to: paths.outputs=DIR"
    return [
        Fault("config.value", f"cannot write runs to {outputs!r}: {reason}", fix, column="paths.outputs")
        for reason in _obstacles(outputs)
    ]


def _obstacles(outputs: str) -> Iterator[str]:
    """Yield the reason why `outputs` cannot become a folder with files in it."""
    if not outputs or "\0" in outputs:
        yield "that is no path"
        return
    path = Path(outputs).absolute()
    there = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
    if not there.is_dir():
        yield f"{there} is not a folder"
    elif not os.access(there, os.W_OK | os.X_OK):
        yield f"{there} may not be written to"
