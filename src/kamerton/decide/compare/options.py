"""Options of `kamerton compare`: the keys of `conf/compare.yaml`, their types and bounds."""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Lt

from kamerton.config.places import check_places
from kamerton.config.schema import Config, PathOptions
from kamerton.errors import Fault, UserError

_RUN = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*")  # an id, or name/id

Drops = dict[str, Annotated[float, Ge(0)]]


@dataclass
class SliceLimits:
    """Allowed drop by metric in each group of one field."""

    max_drop: Drops = field(default_factory=dict)


@dataclass
class GateOptions:
    """Allowed drop by metric of a candidate against the baseline: on all examples, and by slice field."""

    max_drop: Drops = field(default_factory=dict)
    slices: dict[str, SliceLimits] = field(default_factory=dict)

    @property
    def is_set(self) -> bool:
        return bool(self.max_drop or self.slices)


@dataclass
class CompareOptions:
    """Options of one comparison; `conf/compare.yaml` documents the keys."""

    runs: list[str] | str
    baseline: str = "base"
    split: str = "test"
    name: str | None = None
    golden: str | None = None
    seed: Annotated[int, Ge(0), Lt(2**32)] = 0
    gate: GateOptions = field(default_factory=GateOptions)
    paths: PathOptions = field(default_factory=PathOptions)

    @property
    def entries(self) -> list[str]:
        return [self.runs] if isinstance(self.runs, str) else self.runs


CompareOptions.__pydantic_config__ = Config.__pydantic_config__  # type: ignore[attr-defined]


def check_compare(values: Mapping[str, Any]) -> list[Fault]:
    """Return faults beyond the schema of the options; missing runs are reported when they are read."""
    return check_places(values)


def name_of(options: CompareOptions) -> str:
    """Return the name of the comparison; by default it is derived from what is compared, so that it is reproducible."""
    if options.name:
        return options.name
    request = f"{sorted(options.entries)} {options.baseline} {options.split}"
    folder = re.sub(r"[^A-Za-z0-9]+", "-", Path(options.entries[0]).parent.name).strip("-") or "runs"
    return f"{folder[:40]}-{hashlib.sha256(request.encode()).hexdigest()[:7]}"


def located(entry: str, outputs: Path) -> str:
    """Return the directory of the run below `outputs` with this id or `name/id`; any other entry as it is.

    Raises `UserError` if several runs have the id.
    """
    if glob.has_magic(entry) or not _RUN.fullmatch(entry) or Path(entry).exists():
        return entry
    matched = sorted(str(file.parent) for file in outputs.glob(f"{'' if '/' in entry else '*/'}{entry}/run.json"))
    if len(matched) > 1:
        message = f"several runs are called {entry!r}: {', '.join(matched)}"
        raise UserError([Fault("runs.several", message, f"give the directory of one of them: {matched[0]}")])
    return matched[0] if matched else entry
