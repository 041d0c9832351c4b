"""Ids, and where what they name is kept: `<root>/<tenant>/<job id>` and `<root>/.files/<tenant>/<file id>`.

An id is looked up only where it has the form of one, so that no text of a request becomes a path.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from kamerton.errors import UserError
from kamerton.jobs.store import read_status
from kamerton.run.directory import ENDED, read_record
from kamerton.server.errors import ApiError
from kamerton.server.settings import Settings

_JOB = re.compile(r"ftjob-[0-9a-f]{24}")
_FILE = re.compile(r"file-[0-9a-f]{24}")
META, CONTENT = "meta.json", "content.jsonl"
log = logging.getLogger(__name__)


def new_job_id() -> str:
    """An id that nobody can guess."""
    return f"ftjob-{secrets.token_hex(12)}"


def new_file_id() -> str:
    """An id that nobody can guess."""
    return f"file-{secrets.token_hex(12)}"


def job_path(settings: Settings, tenant: str, job_id: str) -> Path:
    """The run directory of a tenant's job; raises `ApiError` 404 where there is none."""
    path = settings.root / tenant / job_id
    if _JOB.fullmatch(job_id) and "request" in job_record(path):
        return path
    message = f"No such fine-tuning job: {job_id}"
    raise ApiError(404, message, "fine_tuning_job_id", "resource_not_found")


def job_record(path: Path) -> Mapping[str, Any]:
    """What lists need of a run's record; empty where there is none, or it is damaged: one job must not hide the others.

    It is read again only when the file has changed: a tenant's jobs are never deleted, and each list looks at all.
    """
    try:
        file = (path / "run.json").stat()
    except OSError:
        return {}
    return _record(path, (file.st_ino, file.st_mtime_ns, file.st_size))


@lru_cache(maxsize=20_000)
def _record(path: Path, version: tuple[int, int, int]) -> Mapping[str, Any]:
    del version  # tells one state of the file from another
    try:
        record = read_record(path) or {}
    except UserError as error:
        log.error("%s", error)
        return {}
    return {key: record[key] for key in ("request", "state", "metrics", "progress") if key in record}


def job_paths(settings: Settings, tenant: str) -> list[Path]:
    """The run directories of a tenant that have the name of a job."""
    folder = settings.root / tenant
    return [path for path in folder.iterdir() if _JOB.fullmatch(path.name)] if folder.is_dir() else []


def files_of(settings: Settings, tenant: str) -> Path:
    """The folder of a tenant's files."""
    return settings.root / ".files" / tenant


def file_path(settings: Settings, tenant: str, file_id: str, param: str = "file_id") -> Path:
    """The folder of a tenant's file; raises `ApiError` 404 where there is none."""
    path = files_of(settings, tenant) / file_id
    if _FILE.fullmatch(file_id) and (path / META).is_file():
        return path
    raise ApiError(404, f"No such File object: {file_id}", param, "resource_not_found")


def users_of(settings: Settings, tenant: str, file_id: str) -> list[str]:
    """The tenant's jobs that have not ended and read a file."""
    return [path.name for path in job_paths(settings, tenant) if _uses(path, file_id)]


def _uses(path: Path, file_id: str) -> bool:
    asked = job_record(path).get("request") or {}
    is_named = file_id in (asked.get("training_file"), asked.get("validation_file"))
    return is_named and job_record(path).get("state") not in ENDED and read_status(path).state not in ENDED
