"""The fields of `run.json` that are read from other runs, and their types: a run directory may come from anywhere."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

State = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled", "paused"]

_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Seconds = Annotated[_Finite, Field(ge=0, le=1e12)]


class _Part(BaseModel, strict=True):
    """Values are not converted; fields that are not named here may be there."""


class _Progress(_Part):
    epoch: _Finite | None = None
    step: _Count | None = None
    steps: _Count | None = None
    eta_s: _Seconds | None = None
    examples: dict[Literal["processed", "total"], _Count] | None = None
    tokens: _Count | None = None


class _Error(_Part):
    code: str
    message: str


class _Ended(_Part):
    reason: str
    step: _Count
    of: _Count
    detail: str


class _Times(_Part):
    created: str | None = None
    started: str | None = None
    finished: str | None = None


class _Model(_Part):
    name: str | None = None


class _Throughput(_Part):
    tokens_per_s: _Finite | None = None


class _Job(_Part):
    overrides: list[str]
    search: list[str] = []
    cwd: str
    limit: _Count | None = None
    queued: _Count | None = None


class _Record(_Part):
    state: State | None = None
    progress: _Progress | None = None
    error: _Error | None = None
    ended: _Ended | None = None
    times: _Times | None = None
    model: _Model | None = None
    throughput: _Throughput | None = None
    metrics: dict[str, dict[str, float | None]] | None = None
    heartbeat: str | None = None
    cwd: str | None = None
    job: _Job | None = None
    data: dict[str, Any] | None = None
    batch: dict[str, Any] | None = None
    schedule: dict[str, Any] | None = None
    best: dict[str, Any] | None = None
    hosted: dict[str, Any] | None = None


def misshapen(record: Mapping[str, Any]) -> str | None:
    """What is wrong with a record, such as "progress is 5"; None if it can be read."""
    try:
        _Record.model_validate(record)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"] if part != "[key]")
        return f"{key} is missing" if first["type"] == "missing" else f"{key} is {reprlib.repr(first['input'])}"
    return None
