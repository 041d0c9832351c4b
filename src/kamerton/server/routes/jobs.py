"""`/v1/fine_tuning/jobs`: create, list, retrieve, cancel, pause, resume, events, checkpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool

from kamerton.errors import UserError
from kamerton.jobs import control
from kamerton.jobs.store import ACTIVE
from kamerton.server.auth import tenant_of
from kamerton.server.errors import ApiError
from kamerton.server.ids import file_path, job_path
from kamerton.server.json_body import JsonRoute
from kamerton.server.routes.events import events_page, show_event
from kamerton.server.routes.job_request import MAX_METADATA, JobRequest
from kamerton.server.routes.pages import After, Limit, listed, only, page
from kamerton.server.routes.sanitize import readable
from kamerton.server.routes.serialize import checkpoints_of, records_of, show_job
from kamerton.server.routes.start import check_room, start_job
from kamerton.server.settings import Settings

T = TypeVar("T")
Tenant = Annotated[str, Depends(tenant_of)]


def jobs_router(settings: Settings) -> APIRouter:  # noqa: C901 - a list of routes, each a function
    """The routes of fine-tuning jobs."""
    router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"], route_class=JsonRoute)

    queueing = Queueing()

    @router.post("")
    async def create_job(asked: JobRequest, tenant: Tenant) -> dict[str, Any]:
        def create() -> dict[str, Any]:
            return show_job(settings, start_job(settings, tenant, asked))

        return await queueing.one(tenant, create)

    @router.get("")
    def list_jobs(request: Request, tenant: Tenant, after: After = None, limit: Limit = 20) -> dict[str, Any]:
        wanted = _metadata(request)
        found = [(path, record) for path, record in records_of(settings, tenant) if _has(record, wanted)]
        return page(found, lambda one: show_job(settings, one[0]), lambda one: one[0].name, after, limit)

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

        return await queueing.one(tenant, resume)

    @router.get("/{job_id}/events")
    def list_events(
        request: Request, job_id: str, tenant: Tenant, after: After = None, limit: Limit = 20
    ) -> dict[str, Any]:
        only(request, ("after", "limit"))
        events, has_more = events_page(settings, job_path(settings, tenant, job_id), after, limit)
        return listed([show_event(event) for event in events], has_more=has_more)

    @router.get("/{job_id}/checkpoints")
    def list_checkpoints(
        request: Request, job_id: str, tenant: Tenant, after: After = None, limit: Limit = 10
    ) -> dict[str, Any]:
        only(request, ("after", "limit"))
        found = checkpoints_of(job_path(settings, tenant, job_id))
        return page(found, lambda one: one, lambda one: str(one["id"]), after, limit)

    return router


class Queueing:
    """What queues a job: one of a tenant at a time, so that the limit of its jobs is exact, and one of all.

    So the tenants take turns. It takes seconds of a thread; those who wait take none.
    """

    def __init__(self) -> None:
        self._tenants: dict[str, asyncio.Lock] = {}
        self._all = asyncio.Lock()

    async def one(self, tenant: str, work: Callable[[], T]) -> T:
        """What `work` comes to; it blocks, and may raise."""
        async with self._tenants.setdefault(tenant, asyncio.Lock()), self._all:
            return await run_in_threadpool(work)


def _metadata(request: Request) -> dict[str, str]:
    """The `metadata[key]=value` of a query."""
    given = {name: value for name, value in request.query_params.items() if name.startswith("metadata[")}
    if len(given) > MAX_METADATA:
        raise ApiError(400, f"metadata holds more than {MAX_METADATA} keys", "metadata", "invalid_value")
    only(request, ("after", "limit", *given))
    return {name.removeprefix("metadata[").removesuffix("]"): value for name, value in given.items()}


def _has(record: Mapping[str, Any], wanted: dict[str, str]) -> bool:
    metadata = record["request"]["metadata"] or {}
    return all(metadata.get(key) == value for key, value in wanted.items())


async def _end(settings: Settings, tenant: str, job_id: str, state: Any) -> dict[str, Any]:
    path = await run_in_threadpool(job_path, settings, tenant, job_id)
    found = await run_in_threadpool(show_job, settings, path)
    if found["status"] in ("succeeded", "failed", "cancelled") and found["status"] != state:
        raise ApiError(400, f"Job {job_id} has already {found['status']}.", "fine_tuning_job_id", "job_ended")
    try:
        await _to_its_end(control.end_run(path, state))
    except UserError as error:
        raise _conflict(settings, path, error) from error
    return await run_in_threadpool(show_job, settings, path)


_ending: set[asyncio.Task[Any]] = set()  # the loop itself keeps no task alive


async def _to_its_end(work: Coroutine[Any, Any, Any]) -> None:
    """Await it; a client that hangs up does not end it halfway."""
    task = asyncio.ensure_future(work)
    _ending.add(task)
    task.add_done_callback(_ending.discard)
    await asyncio.shield(task)


def _resume(settings: Settings, tenant: str, path: Path) -> None:
    shown = show_job(settings, path)
    if shown["status"] not in ACTIVE:
        check_room(settings, tenant)
    for param in ("training_file", "validation_file"):
        if shown[param] is not None:
            file_path(settings, tenant, shown[param], param)
    try:
        control.resume(path, trust=True)  # its overrides and its folder are the server's own
    except UserError as error:
        raise _conflict(settings, path, error) from error


def _conflict(settings: Settings, path: Path, error: UserError) -> ApiError:
    message = "; ".join(readable(settings, path, {}, fault.message) for fault in error.faults)
    return ApiError(409, message, "fine_tuning_job_id", error.faults[0].code)
