"""Typed schema of `run.json`, which may be untrusted or from an older version."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

State = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled", "paused"]

_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Seconds = Annotated[_Finite, Field(ge=0, le=1e12)]


def _without_nulls(values: Any) -> Any:
    if not isinstance(values, dict):
        return values
    return {key: value for key, value in values.items() if value is not None}


class _Part(BaseModel):
    """A mapping in the file. Values are not converted, null counts as missing, unknown fields are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_missing(cls, values: Any) -> Any:
        return _without_nulls(values)


class Progress(_Part):
    """`step` of `steps` optimizer steps and their `seconds`."""

    epoch: _Finite | None = None
    step: _Count | None = None
    steps: _Count | None = None
    seconds: _Finite | None = None
    eta_s: _Seconds | None = None
    examples: dict[Literal["processed", "total"], _Count] = {}
    tokens: _Count | None = None


class Failure(_Part):
    """Why a run failed or was cancelled; `param` is the configuration key at fault."""

    code: str
    message: str
    param: Any = None


class Ended(_Part):
    """Why training ended: `reason`, after `step` of `of` steps."""

    reason: str
    step: _Count
    of: _Count
    detail: str
    values: dict[str, Any] = {}


class Times(_Part):
    """ISO 8601 in UTC."""

    created: str | None = None
    started: str | None = None
    finished: str | None = None


class Model(_Part):
    """The model's short name and its number of parameters."""

    name: str | None = None
    parameters: _Integer | None = None
    trainable_parameters: _Integer | None = None


class Throughput(_Part):
    """Speed of the training."""

    tokens_per_s: _Finite | None = None


class Job(_Part):
    """The command of a job; at most `limit` jobs run at once, and `queued` is its number in the queue."""

    overrides: list[str]
    search: list[str] = []
    cwd: str
    limit: _Count | None = None
    queued: _Count | None = None


class DataFacts(_Part):
    """The part of the data report that is read from other runs."""

    labels: list[str] | None = None


class Data(_Part):
    """The data of a run: their fingerprint, and the number of examples by split."""

    fingerprint: str | None = None
    counts: dict[str, _Integer] = {}
    report: DataFacts = DataFacts()


class Batch(_Part):
    """How the steps are computed: batch layout, token limit of a micro-batch, whether Liger computes the loss.

    `matmul` is the number format of large matrix products, `kernels` the version of the kernels' arithmetic.
    """

    cut: Literal["tree", "packed", "padded"] | None = None
    max_tokens: _Integer | None = None
    liger: bool | None = None
    matmul: Literal["float32", "bfloat16"] | None = None
    kernels: _Integer | None = None


class Schedule(_Part):
    """The learning rate schedule values that the run chose."""

    warmup_steps: _Integer | None = None


class Trial(_Part):
    """The trial of a sweep that a run belongs to."""

    study: str = ""
    number: _Integer = 0
    params: dict[str, Any] | None = None


class Folds(_Part):
    """How a cross-validation assigns its folds."""

    folds: _Integer | None = None
    group: str | None = None
    stratify: str | None = None


class Git(_Part):
    """The commit of the working directory."""

    commit: str = ""
    dirty: bool = False


class Hosted(_Part):
    """A fine-tuning job at an endpoint; `ended` is its last status."""

    base_url: str | None = None
    job_id: str | None = None
    former_jobs: list[Any] = []
    nonce: str | None = None
    status: str = ""
    ended: str | None = None
    paused: bool | None = None
    last_event: str | None = None
    training_file: str | None = None
    validation_file: str | None = None
    fine_tuned_model: str | None = None
    trained_tokens: _Integer | None = None
    training_dollars: _Finite | None = None


class Record(_Part):
    """The content of `run.json`. Missing values are None, or an empty part.

    `metrics` are by split, `request` is the request of a client of the server, `graders` a hash of the contents of the
    grader files among the rewards.
    """

    run_id: str | None = None
    experiment: str | None = None
    objective: str | None = None
    graders: str | None = None
    state: State | None = None
    error: Failure | None = None
    ended: Ended | None = None
    times: Times = Times()
    heartbeat: str | None = None
    pid: _Integer | None = None
    cwd: str | None = None
    seed: _Integer | None = None
    git: Git = Git()
    wandb_id: str | None = None
    parent: str | None = None
    fold: _Integer | None = None
    trial: Trial | None = None
    final: bool = False
    job: Job | None = None
    request: dict[str, Any] | None = None
    data: Data = Data()
    model: Model = Model()
    batch: Batch = Batch()
    schedule: Schedule = Schedule()
    progress: Progress = Progress()
    throughput: Throughput = Throughput()
    metrics: dict[str, dict[str, _Integer | float]] = {}
    cv: Folds = Folds()
    hosted: Hosted = Hosted()

    @field_validator("metrics", mode="before")
    @classmethod
    def _without_null_metrics(cls, metrics: Any) -> Any:
        if not isinstance(metrics, dict):
            return metrics
        return {split: _without_nulls(values) for split, values in metrics.items()}


def parse_record(values: Mapping[str, Any]) -> Record:
    """Return the record of a file's values. Raises `ValueError` such as "progress is 5" if they are invalid."""
    try:
        return Record.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"] if part != "[key]")
        wrong = "is missing" if first["type"] == "missing" else f"is {reprlib.repr(first['input'])}"
        raise ValueError(f"{key} {wrong}") from None
