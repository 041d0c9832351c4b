"""From what a client asks to a queued job: files looked up, the configuration checked, the run directory claimed."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from hydra_plugins.kamerton._overrides import override
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.errors import UserError
from kamerton.jobs.config import FineTuningConfig, compose_job, composing, data_overrides, to_overrides
from kamerton.jobs.control import as_job
from kamerton.jobs.store import read_status
from kamerton.jobs.worker import start_worker
from kamerton.run.directory import ENDED
from kamerton.run.opening import claim_run
from kamerton.server.errors import ApiError
from kamerton.server.ids import CONTENT, file_path, job_paths, job_record, new_job_id
from kamerton.server.routes.files import PURPOSE, check_disk
from kamerton.server.routes.job_request import EPOCHS, Hyperparameters, JobRequest, number
from kamerton.server.settings import Settings

MAX_ACTIVE = 16  # jobs of a tenant that wait or train
_FIXED = ("base=false", "baselines=false", "logger=csv")  # whoever wants comparisons evaluates the model


def start_job(settings: Settings, tenant: str, asked: JobRequest) -> Path:
    """Queue a job, and return its run directory; its process outlives this one.

    Its data are checked by the job itself. For one job of a tenant at a time: the limit of its jobs is checked first.
    Raises `ApiError` for what cannot be trained.
    """
    _check(settings, asked)
    training = _content(settings, tenant, asked.training_file, "training_file")
    given = asked.validation_file
    validation = None if given is None else str(_content(settings, tenant, given, "validation_file"))
    check_room(settings, tenant)
    data = DataOptions(name=PURPOSE, train=str(training), validation=validation, labels=None)
    job_id = new_job_id()
    overrides, values = _configured(settings, tenant, asked, data, job_id)
    path = settings.root / tenant / job_id
    try:
        run = claim_run(values, path.parent)
        run.update(request=_kept(asked, values))
        start_worker(run, as_job(overrides, path), str(settings.root), settings.max_running)
    except OSError:  # such as a full disk: no half of a job is left
        shutil.rmtree(path, ignore_errors=True)
        raise
    return path


def _check(settings: Settings, asked: JobRequest) -> None:
    if settings.base(asked.model) is None:
        known = ", ".join(settings.names)
        raise ApiError(
            400, f"The model `{asked.model}` cannot be fine-tuned; these can: {known}.", "model", "model_not_available"
        )
    if asked.hyperparameters and asked.method:
        message = "Give the hyperparameters in method.supervised alone."
        raise ApiError(400, message, "hyperparameters", "invalid_value")


def _content(settings: Settings, tenant: str, file_id: str, param: str) -> Path:
    return file_path(settings, tenant, file_id, param) / CONTENT


def check_room(settings: Settings, tenant: str) -> None:
    """Raises `ApiError` where the tenant may not have one more job that waits or trains."""
    check_disk(settings)
    records = [(path, job_record(path)) for path in job_paths(settings, tenant)]
    paths = [path for path, record in records if "request" in record and record.get("state") not in ENDED]
    active = sum(read_status(path).is_active for path in paths)
    if active >= MAX_ACTIVE:
        raise ApiError(429, f"You have {active} unfinished jobs: wait for one, or cancel it.", code="too_many_jobs")


def _configured(
    settings: Settings, tenant: str, asked: JobRequest, data: DataOptions, job_id: str
) -> tuple[list[str], dict[str, Any]]:
    """The overrides of `kamerton train` that make the job, and the configuration behind them."""
    chosen, base = asked.chosen, settings.base(asked.model)
    assert base is not None  # checked before
    config = FineTuningConfig(
        model=base,
        epochs=number(chosen.n_epochs) or EPOCHS,
        batch_size=number(chosen.batch_size),
        seed=asked.seed,
        name=tenant,
    )
    overrides = [*data_overrides(data, SplitOptions()), *to_overrides(config), *_FIXED]
    own = [override("run_id", job_id), override("paths.outputs", str(settings.root))]
    try:
        with composing:
            values = compose_job([*overrides, *own], deep=False)
            if (factor := number(chosen.learning_rate_multiplier)) is not None:
                overrides.append(override("optimizer.lr", values["optimizer"]["lr"] * factor))
                values = compose_job([*overrides, *own], deep=False)
    except UserError as error:
        raise ApiError(400, "; ".join(fault.message for fault in error.faults), code="invalid_value") from error
    return overrides, values


def _kept(asked: JobRequest, values: dict[str, Any]) -> dict[str, Any]:
    """What a job is shown with, in its `run.json`."""
    factor = number(asked.chosen.learning_rate_multiplier)
    used = Hyperparameters(
        n_epochs=values["trainer"]["max_epochs"],
        batch_size=values["batch"]["size"],
        learning_rate_multiplier=1.0 if factor is None else float(factor),
    )
    return {
        "created": time.time(),
        "model": asked.model,
        "training_file": asked.training_file,
        "validation_file": asked.validation_file,
        "hyperparameters": used.model_dump(),
        "suffix": asked.suffix or None,
        "seed": values["seed"],
        "metadata": asked.metadata,
    }
