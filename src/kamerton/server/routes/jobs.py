"""`/v1/fine_tuning/jobs`: create, list, retrieve, cancel, pause, resume, events, checkpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool

from kamerton.errors import UserError
from kamerton.jobs import control
from kamerton.jobs.store import ACTIVE
from kamerton.server.auth import tenant_of
from kamerton.server.errors import ApiError
from kamerton.server.ids import file_path, job_path, request_of
from kamerton.server.json_body import JsonRoute
from kamerton.server.routes.events import events_page, show_event
from kamerton.server.routes.job_request import MAX_METADATA, JobRequest
from kamerton.server.routes.pages import After, Limit, only, page, to_list
from kamerton.server.routes.sanitize import sanitize
from kamerton.server.routes.serialize import checkpoints_of, records_of, show_job
from kamerton.server.routes.start import check_active_jobs, start_job
from kamerton.server.settings import Settings

T = TypeVar("T")
Tenant = Annotated[str, Depends(tenant_of)]


def jobs_router(settings: Settings) -> APIRouter:  # noqa: C901 - a list of routes, each a function
    """Return the routes of fine-tuning jobs."""
    router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"], route_class=JsonRoute)
    queueing = Queueing()

    @router.post("")
    async def create_job(job_request: JobRequest, tenant: Tenant) -> dict[str, Any]:
        def create() -> dict[str, Any]:
            return show_job(settings, start_job(settings, tenant, job_request))

        return await queueing.run(tenant, create)

    @router.get("")
    def list_jobs(request: Request, tenant: Tenant, after: After = None, limit: Limit = 20) -> dict[str, Any]:
        metadata = _metadata_filter(request)
        records = records_of(settings, tenant)
        paths = [path for path, record in records if metadata.items() <= (request_of(record)["metadata"] or {}).items()]
        return page(paths, lambda path: show_job(settings, path), lambda path: path.name, after, limit)

    @router.get("/{job_id}")
    def retrieve_job(job_id: str, tenant: Tenant) -> dict[str, Any]:
        return show_job(settings, job_path(settings, tenant, job_id))

    @router.post("/{job_id}/cancel")
    async def cancel_job(job_id: str, tenant: Tenant) -> dict[str, Any]:
        return await _end(settings, tenant, job_id, "cancelled")

    @router.post("/{job_id}/pause")
    async def pause_job(job_id: str, tenant: Tenant) -> dict[str, Any]:
        return await _end(settings, tenant, job_id, "paused")

    @router.post("/{job_id}/resume")
    async def resume_job(job_id: str, tenant: Tenant) -> dict[str, Any]:
        def resume() -> dict[str, Any]:
            path = job_path(settings, tenant, job_id)
            _resume(settings, tenant, path)
            return show_job(settings, path)

        return await queueing.run(tenant, resume)

    @router.get("/{job_id}/events")
    def list_events(
        request: Request, job_id: str, tenant: Tenant, after: After = None, limit: Limit = 20
    ) -> dict[str, Any]:
        only(request, ("after", "limit"))
        events, has_more = events_page(settings, job_path(settings, tenant, job_id), after, limit)
        return to_list([show_event(event) for event in events], has_more=has_more)

    @router.get("/{job_id}/checkpoints")
    def list_checkpoints(
        request: Request, job_id: str, tenant: Tenant, after: After = None, limit: Limit = 10
    ) -> dict[str, Any]:
        only(request, ("after", "limit"))
        checkpoints = checkpoints_of(job_path(settings, tenant, job_id))
        return page(checkpoints, lambda checkpoint: checkpoint, lambda checkpoint: str(checkpoint["id"]), after, limit)

    return router


class Queueing:
    """Runs one job-queueing request at a time, so that the limit of a tenant's jobs is exact and tenants take turns.

    Such a request takes seconds of a thread; waiting requests use no thread.
    """

    def __init__(self) -> None:
        self._tenants: dict[str, asyncio.Lock] = {}
        self._all = asyncio.Lock()

    async def run(self, tenant: str, work: Callable[[], T]) -> T:
        """Return the result of `work`, which may block and raise."""
        async with self._tenants.setdefault(tenant, asyncio.Lock()), self._all:
            return await run_in_threadpool(work)


def _metadata_filter(request: Request) -> dict[str, str]:
    """Return the `metadata[key]=value` parameters of a query. Raises `ApiError` for unknown parameters."""
    metadata = {name: value for name, value in request.query_params.items() if name.startswith("metadata[")}
    if len(metadata) > MAX_METADATA:
        raise ApiError(400, f"metadata contains more than {MAX_METADATA} keys", "metadata", "invalid_value")
    only(request, ("after", "limit", *metadata))
    return {name.removeprefix("metadata[").removesuffix("]"): value for name, value in metadata.items()}


_tasks: set[asyncio.Task[Any]] = set()  # references, because the event loop keeps none


async def _end(settings: Settings, tenant: str, job_id: str, state: Any) -> dict[str, Any]:
    path = await run_in_threadpool(job_path, settings, tenant, job_id)
    job = await run_in_threadpool(show_job, settings, path)
    if job["status"] in ("succeeded", "failed", "cancelled") and job["status"] != state:
        raise ApiError(400, f"Job {job_id} has already {job['status']}.", "fine_tuning_job_id", "job_ended")
    task = asyncio.ensure_future(control.end_run(path, state))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    try:
        await asyncio.shield(task)  # continues if the client disconnects
    except UserError as error:
        raise _conflict(settings, path, error) from error
    return await run_in_threadpool(show_job, settings, path)


def _resume(settings: Settings, tenant: str, path: Path) -> None:
    job = show_job(settings, path)
    if job["status"] not in ACTIVE:
        check_active_jobs(settings, tenant)
    for param in ("training_file", "validation_file"):
        if job[param] is not None:
            file_path(settings, tenant, job[param], param)
    try:
        control.resume(path, trust=True)  # overrides and folder come from this server
    except UserError as error:
        raise _conflict(settings, path, error) from error


def _conflict(settings: Settings, path: Path, error: UserError) -> ApiError:
    message = "; ".join(sanitize(settings, path, {}, fault.message) for fault in error.faults)
    return ApiError(409, message, "fine_tuning_job_id", error.faults[0].code)
