"""`/v1/models`: the allowed base models, runs served by name, and the models that a tenant's jobs have fine-tuned."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from kamerton.run.record import Record
from kamerton.server.auth import tenant_of
from kamerton.server.errors import ApiError
from kamerton.server.ids import job_path, job_paths, job_record
from kamerton.server.settings import Settings

MODEL = "model"  # folder of a run's exported model
_TUNED = re.compile(r"(?P<name>ft(?::[^:]*){3}:(?P<job>[^:]*))(?::ckpt-step-(?P<step>\d+))?")
Tenant = Annotated[str, Depends(tenant_of)]


def tuned_name(base: str, tenant: str, suffix: str | None, job_id: str) -> str:
    """Return the name of a job's model."""
    return f"ft:{base}:{tenant}:{suffix or ''}:{job_id}"


def resolve(settings: Settings, tenant: str, model_id: str) -> Path | str:
    """Return the run directory of a model that the tenant may query, or the name of an allowed base model.

    Raises `ApiError` 404 for any other model: another tenant's, unfinished, deleted, or unknown.
    """
    if (base := settings.base(model_id)) is not None:
        return base
    if (run := dict(settings.runs).get(model_id)) is not None:
        return run
    match = _TUNED.fullmatch(model_id)
    try:
        path = job_path(settings, tenant, match["job"] if match else "")
    except ApiError:
        raise _unknown(model_id) from None
    steps = (None, str(step_of(job_record(path))))
    if match is None or name_of(path) != match["name"] or match["step"] not in steps:
        raise _unknown(model_id)
    return path


def step_of(record: Record) -> int | None:
    """Return the optimizer step of the weights of a finished job's model."""
    step = record.metrics.get("best", {}).get("step") or record.progress.step
    return None if step is None else int(step)


def name_of(path: Path) -> str | None:
    """Return the name of the model in a job's run directory; None if it has no finished model."""
    record = job_record(path)
    request = record.request
    if request is None or record.state != "succeeded" or not (path / MODEL).is_dir():
        return None
    return tuned_name(request["model"], path.parent.name, request["suffix"], path.name)


def models_router(settings: Settings) -> APIRouter:
    """Return the routes of `/v1/models`: list, retrieve, delete."""
    router = APIRouter(prefix="/v1/models", tags=["models"])

    @router.get("")
    def list_models(tenant: Tenant) -> dict[str, Any]:
        tuned = [(path, name) for name, path in settings.runs]
        tuned += [(path, name) for path in job_paths(settings, tenant) if (name := name_of(path))]
        models = [_show_base(name) for name in settings.names] + [_show_tuned(path, name) for path, name in tuned]
        return {"object": "list", "data": models}

    @router.get("/{model}")
    def retrieve_model(model: str, tenant: Tenant) -> dict[str, Any]:
        source = resolve(settings, tenant, model)
        return _show_base(model) if isinstance(source, str) else _show_tuned(source, model)

    @router.delete("/{model}")
    def delete_model(model: str, tenant: Tenant) -> dict[str, Any]:
        source = resolve(settings, tenant, model)
        if isinstance(source, str):
            raise ApiError(403, f"The base model `{model}` cannot be deleted.", "model", "base_model")
        if model in dict(settings.runs):
            raise ApiError(403, f"The run `{model}` was not made by this API and cannot be deleted.", "model", "run")
        # The model and its checkpoints are deleted; metrics and reports stay.
        deleted = source / ".deleted"
        shutil.rmtree(deleted, ignore_errors=True)
        (source / MODEL).rename(deleted)  # atomic: a partially deleted model is never served
        for folder in (deleted, source / "checkpoints"):
            shutil.rmtree(folder, ignore_errors=True)
        return {"id": model, "object": "model", "deleted": True}

    return router


def _show_base(name: str) -> dict[str, Any]:
    return _show_model(name, 0, "kamerton")


def _show_tuned(path: Path, name: str) -> dict[str, Any]:
    return _show_model(name, int((path / MODEL).stat().st_mtime), path.parent.name)


def _show_model(name: str, created: int, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": owner, "shutdown_date": None}


def _unknown(model_id: str) -> ApiError:
    message = f"The model `{model_id}` does not exist or you do not have access to it."
    return ApiError(404, message, "model", "model_not_found")
