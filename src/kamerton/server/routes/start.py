"""Start a job from a request: look up its files, check the configuration, claim a run directory, start a worker."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from hydra_plugins.kamerton._overrides import override
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.errors import UserError
from kamerton.files import write_text
from kamerton.jobs.config import FineTuningConfig, compose_job, composing, data_overrides, to_overrides
from kamerton.jobs.control import as_job
from kamerton.jobs.store import read_status
from kamerton.jobs.worker import start_worker
from kamerton.run.directory import ENDED
from kamerton.run.opening import claim_run
from kamerton.server.errors import ApiError
from kamerton.server.ids import CONTENT, file_path, job_paths, job_record, new_job_id
from kamerton.server.routes.files import PURPOSE, check_disk
from kamerton.server.routes.job_request import (
    EPOCHS,
    DpoHyperparameters,
    JobRequest,
    ReinforcementHyperparameters,
    number,
)
from kamerton.server.routes.reinforcement import (
    FILE,
    check_reinforcement,
    graded_data,
    reinforcement_overrides,
    shown_hyperparameters,
)
from kamerton.server.settings import Settings

MAX_ACTIVE = 16  # queued and running jobs per tenant
_FIXED = ("base=false", "baselines=false", "logger=csv")  # comparisons are made by evaluating the model
_OBJECTIVES = {"supervised": None, "dpo": "dpo", "reinforcement": "grpo"}


def start_job(settings: Settings, tenant: str, request: JobRequest) -> Path:
    """Queue a job, and return its run directory; its process outlives this one.

    The job itself checks the data. Call it for one request of a tenant at a time, so that the limit of its jobs is
    exact. Raises `ApiError` for a request that cannot be trained.
    """
    base = settings.base(request.model)
    if base is None:
        message = f"The model `{request.model}` cannot be fine-tuned; these can: {', '.join(settings.names)}."
        raise ApiError(400, message, "model", "model_not_available")
    if request.hyperparameters and request.method:
        message = f"Give the hyperparameters only in method.{request.method.type}."
        raise ApiError(400, message, "hyperparameters", "invalid_value")
    learning = check_reinforcement(request) if request.kind == "reinforcement" else None
    files: dict[str, str | None] = {"training_file": request.training_file, "validation_file": request.validation_file}
    train, validation = (
        None if file_id is None else str(file_path(settings, tenant, file_id, param) / CONTENT)
        for param, file_id in files.items()
    )
    check_active_jobs(settings, tenant)
    data = DataOptions(name=PURPOSE, train=train, validation=validation, labels=None)
    if learning is not None:
        data = graded_data(data, learning.grader)
    path = settings.root / tenant / new_job_id()
    overrides, values = _configure(request, base, data, path)
    factor = number(request.all_hyperparameters.learning_rate_multiplier)
    hyperparameters = {  # with the values used for `auto`
        "n_epochs": values["trainer"]["max_epochs"],
        "batch_size": values["batch"]["size"],
        "learning_rate_multiplier": 1.0 if factor is None else float(factor),
    }
    own: dict[str, Any] = {"hyperparameters": hyperparameters}
    if request.kind == "dpo":
        own = {"hyperparameters": {**hyperparameters, "beta": values["objective"]["beta"]}}
    elif learning is not None:
        own = {"grader": learning.grader, "hyperparameters": {**hyperparameters, **shown_hyperparameters(values)}}
    recorded = {
        "created": time.time(),
        "model": request.model,
        "training_file": request.training_file,
        "validation_file": request.validation_file,
        "hyperparameters": hyperparameters,
        "method": {"type": request.kind, request.kind: own},
        "suffix": request.suffix or None,
        "seed": values["seed"],
        "metadata": request.metadata,
    }
    try:
        run = claim_run(values, path.parent)
        run.update(request=recorded)
        if learning is not None:
            write_text(path / FILE, json.dumps(learning.grader, ensure_ascii=False))
        start_worker(run, as_job(overrides, path), str(settings.root), settings.max_running)
    except OSError:  # such as a full disk: leave no partial job
        shutil.rmtree(path, ignore_errors=True)
        raise
    return path


def check_active_jobs(settings: Settings, tenant: str) -> None:
    """Raise `ApiError` if the disk is full, or the tenant has the maximum of queued and running jobs."""
    check_disk(settings)
    records = [(path, job_record(path)) for path in job_paths(settings, tenant)]
    paths = [path for path, record in records if record.request is not None and record.state not in ENDED]
    active = sum(read_status(path).is_active for path in paths)
    if active >= MAX_ACTIVE:
        raise ApiError(429, f"You have {active} unfinished jobs: wait for one, or cancel it.", code="too_many_jobs")


def _configure(request: JobRequest, base: str, data: DataOptions, path: Path) -> tuple[list[str], dict[str, Any]]:
    """Return the job's overrides of `kamerton train`, and their configuration. Raises `ApiError` for its faults."""
    hyperparameters = request.all_hyperparameters
    config = FineTuningConfig(
        model=base,
        epochs=number(hyperparameters.n_epochs) or EPOCHS,
        batch_size=number(hyperparameters.batch_size),
        seed=request.seed,
        name=path.parent.name,
        method=_OBJECTIVES[request.kind],
        beta=number(hyperparameters.beta) if isinstance(hyperparameters, DpoHyperparameters) else None,
    )
    overrides = [*data_overrides(data, SplitOptions()), *to_overrides(config), *_FIXED]
    if isinstance(hyperparameters, ReinforcementHyperparameters):
        overrides += reinforcement_overrides(hyperparameters, path)
    run = [override("run_id", path.name), override("paths.outputs", str(path.parent.parent))]
    try:
        with composing:
            values = compose_job([*overrides, *run], deep=False)
            if (factor := number(hyperparameters.learning_rate_multiplier)) is not None:
                overrides.append(override("optimizer.lr", values["optimizer"]["lr"] * factor))
                values = compose_job([*overrides, *run], deep=False)
    except UserError as error:
        raise ApiError(400, "; ".join(fault.message for fault in error.faults), code="invalid_value") from error
    return overrides, values
