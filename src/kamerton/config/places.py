"""Output paths: names that become folders, and the folder they are made in."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kamerton.config.schema import mapping_at
from kamerton.errors import Fault

_LETTERS = str.maketrans({"ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D", "ß": "ss"})  # not decomposed
NAME = "[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}"
NAME_RULE = "letters from A to Z, digits and . _ - only, not beginning with a dot, at most 100"


def name_fix(key: str, name: str) -> str:
    """Return the fix of a name that cannot be a folder: the name without accents and other signs."""
    plain = unicodedata.normalize("NFKD", name.translate(_LETTERS)).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-.")[:100]
    return f"write {key}={plain}" if plain else f"correct the value of {key}"


def check_places(values: Mapping[str, Any]) -> list[Fault]:
    """Faults of `name` and `run_id`, which become folders, and of `paths.outputs`; creates nothing."""
    faults = [
        Fault("config.value", f"{key} is {values[key]!r}: {NAME_RULE}", name_fix(key, str(values[key])), column=key)
        for key in ("name", "run_id")
        if values.get(key) is not None and not re.fullmatch(NAME, str(values[key]))
    ]
    outputs = mapping_at(values, "paths").get("outputs")
    if isinstance(outputs, str) and outputs != "???" and (reason := _obstacle(outputs)):  # else a fault of the schema
        fix = "give a folder that can be written to: paths.outputs=DIR"
        message = f"cannot write runs to {outputs!r}: {reason}"
        faults.append(Fault("config.value", message, fix, column="paths.outputs"))
    return faults


def _obstacle(outputs: str) -> str | None:
    """Return the reason why `outputs` cannot become a folder with files in it, None if it can."""
    if not outputs or "\0" in outputs:
        return "that is no path"
    path = Path(outputs).absolute()
    existing = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
    if not existing.is_dir():
        return f"{existing} is not a folder"
    return None if os.access(existing, os.W_OK | os.X_OK) else f"{existing} may not be written to"
