"""Ids of jobs and files, and their folders: `<root>/<tenant>/<job id>` and `<root>/.files/<tenant>/<file id>`.

Only well-formed ids are looked up, so that no text of a request becomes a path.
"""

from __future__ import annotations

import logging
import re
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Any

from kamerton.errors import UserError
from kamerton.jobs.store import read_status
from kamerton.run.directory import ENDED, record_at
from kamerton.run.record import Record
from kamerton.server.errors import ApiError
from kamerton.server.settings import Settings

_JOB = re.compile(r"ftjob-[0-9a-f]{24}")
_FILE = re.compile(r"file-[0-9a-f]{24}")
META, CONTENT = "meta.json", "content.jsonl"
log = logging.getLogger(__name__)


def new_job_id() -> str:
    """Return a new, unguessable id of a job."""
    return f"ftjob-{secrets.token_hex(12)}"


def new_file_id() -> str:
    """Return a new, unguessable id of a file."""
    return f"file-{secrets.token_hex(12)}"


def job_path(settings: Settings, tenant: str, job_id: str) -> Path:
    """Return the run directory of a tenant's job. Raises `ApiError` 404 for an unknown job."""
    path = settings.root / tenant / job_id
    if _JOB.fullmatch(job_id) and job_record(path).request is not None:
        return path
    message = f"No such fine-tuning job: {job_id}"
    raise ApiError(404, message, "fine_tuning_job_id", "resource_not_found")


def job_record(path: Path) -> Record:
    """Return the fields of a run's record that lists need; empty if it is missing or damaged, so that lists still work.

    The file is read again only when it has changed, since jobs are never deleted and every list reads all of them.
    """
    try:
        file = (path / "run.json").stat()
    except OSError:
        return Record()
    return _cached_record(path, (file.st_ino, file.st_mtime_ns, file.st_size))


def request_of(record: Record) -> dict[str, Any]:
    """What a client asked for; every job of the server has a request."""
    assert record.request is not None
    return record.request


@lru_cache(maxsize=20_000)
def _cached_record(path: Path, version: tuple[int, int, int]) -> Record:
    del version  # only part of the cache key
    try:
        record = record_at(path)
    except UserError as error:
        log.error("%s", error)
        return Record()
    return Record(request=record.request, state=record.state, metrics=record.metrics, progress=record.progress)


def job_paths(settings: Settings, tenant: str) -> list[Path]:
    """Return the folders of a tenant that are named like a job."""
    folder = settings.root / tenant
    return [path for path in folder.iterdir() if _JOB.fullmatch(path.name)] if folder.is_dir() else []


def files_of(settings: Settings, tenant: str) -> Path:
    """Return the folder of a tenant's files."""
    return settings.root / ".files" / tenant


def file_path(settings: Settings, tenant: str, file_id: str, param: str = "file_id") -> Path:
    """Return the folder of a tenant's file. Raises `ApiError` 404 for an unknown file."""
    path = files_of(settings, tenant) / file_id
    if _FILE.fullmatch(file_id) and (path / META).is_file():
        return path
    raise ApiError(404, f"No such File object: {file_id}", param, "resource_not_found")


def users_of(settings: Settings, tenant: str, file_id: str) -> list[str]:
    """Return the ids of the tenant's unfinished jobs that use a file."""
    users = []
    for path in job_paths(settings, tenant):
        record = job_record(path)
        request = record.request or {}
        uses_file = file_id in (request.get("training_file"), request.get("validation_file"))
        if uses_file and record.state not in ENDED and read_status(path).state not in ENDED:
            users.append(path.name)
    return users
