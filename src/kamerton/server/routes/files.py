"""`/v1/files`: uploads of tenants, stored in `<root>/.files/<tenant>/<id>/` with `meta.json` and content.

A client's file name is only stored for display and never becomes part of a path. A file that an unfinished job uses
cannot be deleted.
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
MAX_FILES = 1000  # per tenant
QUOTA_UPLOADS = 20  # total size of a tenant's files, as a multiple of `max_upload`
RESERVED = 512 * MIB  # of the disk stay free
MAX_UPLOADS = 4  # at once per tenant
REMAINS_S = 3600  # age after which a file without `meta.json` counts as abandoned
_NAME = 200  # stored characters of a file's name
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
    """Return the routes of `/v1/files`: create, list, retrieve, content, delete."""
    router = APIRouter(prefix="/v1/files", tags=["files"])
    uploads: Counter[str] = Counter()
    storing: dict[str, asyncio.Lock] = {}
    reserve = Reserve(partial(check_disk, settings))

    @router.post("", openapi_extra=_FORM)
    async def create_file(request: Request, tenant: Tenant) -> dict[str, Any]:
        length = request.headers.get("content-length", "")
        announced = int(length) if length.isdecimal() else 0
        with _count_upload(uploads, tenant):
            await run_in_threadpool(_check_quota, settings, tenant, announced)
            with reserve.upload(request.receive, announced) as receive:
                form = await _read_form(Request(request.scope, receive))
                try:
                    upload = _uploaded_file(form)
                    # One at a time, or several could exceed the quota together.
                    async with storing.setdefault(tenant, asyncio.Lock()):
                        return await run_in_threadpool(_store, settings, tenant, upload.file, upload.filename or "")
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
        files = [meta for meta in _files(settings, tenant) if purpose in (None, meta["purpose"])]
        files.sort(key=lambda meta: (meta["created"], meta["id"]), reverse=order == "desc")
        return page(files, _show_file, lambda meta: str(meta["id"]), after, limit)

    @router.get("/{file_id}")
    def retrieve_file(file_id: str, tenant: Tenant) -> dict[str, Any]:
        return _show_file(_read_meta(file_path(settings, tenant, file_id)))

    @router.get("/{file_id}/content", response_class=FileResponse)
    def file_content(file_id: str, tenant: Tenant) -> FileResponse:
        path = file_path(settings, tenant, file_id)
        return FileResponse(
            path / CONTENT, media_type="application/octet-stream", filename=_read_meta(path)["filename"]
        )

    @router.delete("/{file_id}")
    def delete_file(file_id: str, tenant: Tenant) -> dict[str, Any]:
        path = file_path(settings, tenant, file_id)
        if jobs := users_of(settings, tenant, file_id):
            raise ApiError(409, f"Job {jobs[0]} still needs the file {file_id}.", "file_id", "file_in_use")
        (path / META).unlink()  # from now on the file does not exist
        shutil.rmtree(path)
        return {"id": file_id, "object": "file", "deleted": True}

    return router


def remove_remains(settings: Settings) -> None:
    """Delete partial files of a killed server, except recent ones, which another server may be writing."""
    for path in settings.root.glob(".files/*/file-*"):
        if not (path / META).exists() and time.time() - path.stat().st_mtime > REMAINS_S:
            shutil.rmtree(path)


@contextmanager
def _count_upload(uploads: Counter[str], tenant: str) -> Iterator[None]:
    """Count a tenant's uploads and raise `ApiError` for too many, because each one occupies temporary space."""
    if uploads[tenant] >= MAX_UPLOADS:
        raise ApiError(429, f"{MAX_UPLOADS} uploads are under way already.", code="too_many_uploads")
    uploads[tenant] += 1
    try:
        yield
    finally:
        uploads[tenant] -= 1


async def _read_form(request: Request) -> FormData:
    try:
        return await request.form(max_files=1, max_fields=8, max_part_size=1024)
    except UnicodeError:  # a form may name any encoding that Python knows
        raise ApiError(400, "The form is not in the encoding that it names.", code="invalid_value") from None


def _uploaded_file(form: FormData) -> UploadFile:
    """Return the file of a form. Raises `ApiError` for a missing, empty or unknown field."""
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


def _store(settings: Settings, tenant: str, source: BinaryIO, filename: str) -> dict[str, Any]:
    """Store an upload if it fits the quota; return it in OpenAI's format."""
    size = source.seek(0, os.SEEK_END)
    if size > settings.max_upload:
        raise too_large(settings.max_upload)
    _check_quota(settings, tenant, size)
    source.seek(0)
    path = files_of(settings, tenant) / new_file_id()
    # The name's last part, without characters that a terminal or a header would interpret.
    name = "".join(letter for letter in filename.replace("\\", "/").rpartition("/")[2] if letter.isprintable())
    name = name.strip()[-_NAME:] or "file.jsonl"
    meta = {"id": path.name, "bytes": size, "created": time.time(), "filename": name, "purpose": PURPOSE}
    path.mkdir(parents=True, mode=0o700)
    try:
        with replacing(path / CONTENT) as partial, partial.open("wb") as target:
            shutil.copyfileobj(source, target, MIB)
        write_text(path / META, json.dumps(meta) + "\n")  # last: a file without it does not exist
    except BaseException:
        shutil.rmtree(path)
        raise
    flush(path.parent)
    return _show_file(meta)


def _check_quota(settings: Settings, tenant: str, size: int) -> None:
    sizes = [meta["bytes"] for meta in _files(settings, tenant)]
    quota = QUOTA_UPLOADS * settings.max_upload
    if len(sizes) >= MAX_FILES or sum(sizes) + size > quota:
        limit = f"{MAX_FILES:,} files and {quota / MIB:,.0f} MiB"
        raise ApiError(403, f"Your files would be more than {limit}: delete some.", "file", "storage_exceeded")


def check_disk(settings: Settings, size: int = 0) -> None:
    """Raise `ApiError` if less than the reserve would be free after `size` more bytes."""
    folder = next(path for path in (settings.root, *settings.root.parents) if path.exists())
    if shutil.disk_usage(folder).free - size < RESERVED:
        raise disk_full()


def _files(settings: Settings, tenant: str) -> Iterator[dict[str, Any]]:
    """Yield the metadata of each file of a tenant; one deleted meanwhile is skipped."""
    folder = files_of(settings, tenant)
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        with suppress(FileNotFoundError, NotADirectoryError):
            yield _read_meta(path)


def _read_meta(path: Path) -> dict[str, Any]:
    meta: dict[str, Any] = json.loads((path / META).read_text(encoding="utf-8"))
    return meta


def _show_file(meta: dict[str, Any]) -> dict[str, Any]:
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
