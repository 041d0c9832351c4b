"""`/v1/files`: what tenants upload. A file is `<root>/.files/<tenant>/<id>/` with its `meta.json` and its content.

What a client calls a file is kept for people; no path is made of it. A file that an unfinished job reads stays.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from starlette.datastructures import FormData, UploadFile

from kamerton.files import flush, replacing, write_text
from kamerton.server.auth import tenant_of
from kamerton.server.errors import ApiError, disk_full
from kamerton.server.guard import too_large
from kamerton.server.ids import CONTENT, META, file_path, files_of, new_file_id, users_of
from kamerton.server.reserve import Reserve
from kamerton.server.routes.pages import After, Limit, only, page
from kamerton.server.settings import MIB, Settings

PURPOSE = "fine-tune"
MAX_FILES = 1000  # of a tenant
KEPT = 20  # times `max_upload`: what the files of a tenant may hold in all
SPARE = 512 * MIB  # of the disk stay free
AT_ONCE = 4  # uploads of a tenant
REMAINS_S = 3600  # after which a file without `meta.json` is nobody's
_NAME = 200  # characters of a file's name that are kept
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": [PURPOSE]},
                    },
                    "additionalProperties": False,
                }
            }
        },
    }
}
Tenant = Annotated[str, Depends(tenant_of)]


def files_router(settings: Settings) -> APIRouter:
    """`/v1/files`: create, list, retrieve, content, delete."""
    router = APIRouter(prefix="/v1/files", tags=["files"])
    uploads: Counter[str] = Counter()
    keeping: dict[str, asyncio.Lock] = {}
    reserve = Reserve(partial(check_disk, settings))

    @router.post("", openapi_extra=_FORM)
    async def create_file(request: Request, tenant: Tenant) -> dict[str, Any]:
        announced = _announced(request)
        with _one_of(uploads, tenant):
            await run_in_threadpool(_check_quota, settings, tenant, announced)
            with reserve.upload(request.receive, announced) as receive:
                form = await _form(Request(request.scope, receive))
                try:
                    upload = _upload(form)
                    async with keeping.setdefault(tenant, asyncio.Lock()):  # or several would pass the quota at once
                        return await run_in_threadpool(_keep, settings, tenant, upload.file, upload.filename or "")
                finally:
                    await form.close()

    @router.get("")
    def list_files(
        request: Request,
        tenant: Tenant,
        after: After = None,
        limit: Limit = 10_000,
        order: Literal["asc", "desc"] = "desc",
        purpose: str | None = None,
    ) -> dict[str, Any]:
        only(request, ("after", "limit", "order", "purpose"))
        found = [meta for meta in _files(settings, tenant) if purpose in (None, meta["purpose"])]
        found.sort(key=lambda meta: (meta["created"], meta["id"]), reverse=order == "desc")
        return page(found, _shown, lambda meta: str(meta["id"]), after, limit)

    @router.get("/{file_id}")
    def retrieve_file(file_id: str, tenant: Tenant) -> dict[str, Any]:
        return _shown(_read(file_path(settings, tenant, file_id)))

    @router.get("/{file_id}/content", response_class=FileResponse)
    def file_content(file_id: str, tenant: Tenant) -> FileResponse:
        path = file_path(settings, tenant, file_id)
        return FileResponse(path / CONTENT, media_type="application/octet-stream", filename=_read(path)["filename"])

    @router.delete("/{file_id}")
    def delete_file(file_id: str, tenant: Tenant) -> dict[str, Any]:
        path = file_path(settings, tenant, file_id)
        if jobs := users_of(settings, tenant, file_id):
            raise ApiError(409, f"Job {jobs[0]} still needs the file {file_id}.", "file_id", "file_in_use")
        (path / META).unlink()  # from now on there is no such file
        shutil.rmtree(path)
        return {"id": file_id, "object": "file", "deleted": True}

    return router


def remove_remains(settings: Settings) -> None:
    """Delete what a server that was killed left of uploads and deletions; not what another one may be at."""
    for path in settings.root.glob(".files/*/file-*"):
        if not (path / META).exists() and time.time() - path.stat().st_mtime > REMAINS_S:
            shutil.rmtree(path)


@contextmanager
def _one_of(uploads: Counter[str], tenant: str) -> Iterator[None]:
    """Each upload takes temporary space, and a slow one for long."""
    if uploads[tenant] >= AT_ONCE:
        raise ApiError(429, f"{AT_ONCE} uploads are under way already.", code="too_many_uploads")
    uploads[tenant] += 1
    try:
        yield
    finally:
        uploads[tenant] -= 1


async def _form(request: Request) -> FormData:
    try:
        return await request.form(max_files=1, max_fields=8, max_part_size=1024)
    except UnicodeError:  # a form may name any encoding that Python knows
        raise ApiError(400, "The form is not in the encoding that it names.", code="invalid_value") from None


def _announced(request: Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0


def _upload(form: FormData) -> UploadFile:
    """The file of a form; raises `ApiError` for anything else in it."""
    for name in form:
        if name not in ("file", "purpose"):
            raise ApiError(400, f"{name} is not known here", name, "unknown_parameter")
    for name in ("file", "purpose"):
        if len(form.getlist(name)) != 1:
            raise ApiError(400, f"{name} is required, once", name, "missing_required_parameter")
    if form["purpose"] != PURPOSE:
        raise ApiError(400, f"purpose must be {PURPOSE}", "purpose", "invalid_value")
    upload = form["file"]
    if not isinstance(upload, UploadFile):
        raise ApiError(400, "file must be a file", "file", "invalid_type")
    if not upload.size:
        raise ApiError(400, "The file is empty.", "file", "empty_file")
    return upload


def _keep(settings: Settings, tenant: str, source: BinaryIO, filename: str) -> dict[str, Any]:
    size = source.seek(0, os.SEEK_END)
    if size > settings.max_upload:
        raise too_large(settings.max_upload)
    _check_quota(settings, tenant, size)
    source.seek(0)
    path = files_of(settings, tenant) / new_file_id()
    meta = {"id": path.name, "bytes": size, "created": time.time(), "filename": _label(filename), "purpose": PURPOSE}
    path.mkdir(parents=True, mode=0o700)
    try:
        with replacing(path / CONTENT) as partial, partial.open("wb") as target:
            shutil.copyfileobj(source, target, MIB)
        write_text(path / META, json.dumps(meta) + "\n")  # last: what has none is no file
    except BaseException:
        shutil.rmtree(path)
        raise
    flush(path.parent)
    return _shown(meta)


def _label(filename: str) -> str:
    """What people call a file: its last part, without anything that a terminal or a header would take for more."""
    name = "".join(letter for letter in filename.replace("\\", "/").rpartition("/")[2] if letter.isprintable())
    return name.strip()[-_NAME:] or "file.jsonl"


def _check_quota(settings: Settings, tenant: str, size: int) -> None:
    sizes = [meta["bytes"] for meta in _files(settings, tenant)]
    most = KEPT * settings.max_upload
    if len(sizes) >= MAX_FILES or sum(sizes) + size > most:
        limit = f"{MAX_FILES:,} files and {most / MIB:,.0f} MiB"
        raise ApiError(403, f"Your files would be more than {limit}: delete some.", "file", "storage_exceeded")


def check_disk(settings: Settings, size: int = 0) -> None:
    """Raises `ApiError` where the disk would have too little space left after `size` bytes more."""
    if shutil.disk_usage(_there(settings.root)).free - size < SPARE:
        raise disk_full()


def _there(path: Path) -> Path:
    return path if path.exists() else _there(path.parent)


def _files(settings: Settings, tenant: str) -> Iterator[dict[str, Any]]:
    """What is known of each file of a tenant; one that is deleted meanwhile is left out."""
    folder = files_of(settings, tenant)
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        with suppress(FileNotFoundError, NotADirectoryError):
            yield _read(path)


def _read(path: Path) -> dict[str, Any]:
    meta: dict[str, Any] = json.loads((path / META).read_text(encoding="utf-8"))
    return meta


def _shown(meta: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": meta["id"],
        "object": "file",
        "bytes": meta["bytes"],
        "created_at": int(meta["created"]),
        "expires_at": None,
        "filename": meta["filename"],
        "purpose": meta["purpose"],
        "status": "processed",
        "status_details": None,
    }
