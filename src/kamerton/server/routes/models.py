"""The models a tenant may ask: the allowed base models, and what its own jobs have tuned."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from kamerton.server.auth import tenant_of
from kamerton.server.errors import ApiError
from kamerton.server.ids import job_path, job_paths, job_record
from kamerton.server.settings import Settings

MODEL = "model"  # the folder of a run's exported model
_TUNED = re.compile(r"(?P<name>ft(?::[^:]*){3}:(?P<job>[^:]*))(?::ckpt-step-(?P<step>\d+))?")
Tenant = Annotated[str, Depends(tenant_of)]


def tuned_name(base: str, tenant: str, suffix: str | None, job_id: str) -> str:
    """What the model of a job is called."""
    return f"ft:{base}:{tenant}:{suffix or ''}:{job_id}"


def resolve(settings: Settings, tenant: str, model_id: str) -> Path | str:
    """The run directory of a model that the tenant tuned, or the name of an allowed base model.

    Raises `ApiError` 404 for any other, whether it is another tenant's, not trained yet, deleted, or none at all.
    """
    if (base := settings.base(model_id)) is not None:
        return base
    asked = _TUNED.fullmatch(model_id)
    try:
        path = job_path(settings, tenant, asked["job"] if asked else "")
    except ApiError:
        raise _unknown(model_id) from None
    steps = (None, str(step_of(job_record(path))))
    if asked is None or name_of(path) != asked["name"] or asked["step"] not in steps:
        raise _unknown(model_id)
    return path


def step_of(record: Mapping[str, Any]) -> int | None:
    """The optimizer step whose weights the model of a finished job has."""
    best = (record.get("metrics") or {}).get("best") or {}
    step = best.get("step") or (record.get("progress") or {}).get("step")
    return None if step is None else int(step)


def name_of(path: Path) -> str | None:
    """The name of the model that a job's run directory holds; None where there is none that can be asked."""
    record = job_record(path)
    asked: dict[str, Any] | None = record.get("request")
    if asked is None or record.get("state") != "succeeded" or not (path / MODEL).is_dir():
        return None
    return tuned_name(asked["model"], path.parent.name, asked["suffix"], path.name)


def models_router(settings: Settings) -> APIRouter:
    """`/v1/models`: list, retrieve, delete."""
    router = APIRouter(prefix="/v1/models", tags=["models"])

    @router.get("")
    def list_models(tenant: Tenant) -> dict[str, Any]:
        tuned = [(path, name) for path in job_paths(settings, tenant) if (name := name_of(path))]
        found = [_base(name) for name in settings.names] + [_tuned(path, name) for path, name in tuned]
        return {"object": "list", "data": found}

    @router.get("/{model}")
    def retrieve_model(model: str, tenant: Tenant) -> dict[str, Any]:
        found = resolve(settings, tenant, model)
        return _base(model) if isinstance(found, str) else _tuned(found, model)

    @router.delete("/{model}")
    def delete_model(model: str, tenant: Tenant) -> dict[str, Any]:
        found = resolve(settings, tenant, model)
        if isinstance(found, str):
            raise ApiError(403, f"The base model `{model}` cannot be deleted.", "model", "base_model")
        _delete_weights(found)
        return {"id": model, "object": "model", "deleted": True}

    return router


def _delete_weights(path: Path) -> None:
    """Delete a model with the checkpoints it came from; what its training learnt stays."""
    gone = path / ".deleted"
    shutil.rmtree(gone, ignore_errors=True)
    (path / MODEL).rename(gone)  # at once: no half of a model is ever asked
    for folder in (gone, path / "checkpoints"):
        shutil.rmtree(folder, ignore_errors=True)


def _base(name: str) -> dict[str, Any]:
    return _shown(name, 0, "kamerton")


def _tuned(path: Path, name: str) -> dict[str, Any]:
    return _shown(name, int((path / MODEL).stat().st_mtime), path.parent.name)


def _shown(name: str, created: int, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": owner, "shutdown_date": None}


def _unknown(model_id: str) -> ApiError:
    message = f"The model `{model_id}` does not exist or you do not have access to it."
    return ApiError(404, message, "model", "model_not_found")
