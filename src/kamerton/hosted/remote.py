"""Requests that create something at the endpoint, exactly once: after a lost answer it is searched for first."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from kamerton.endpoint import UPLOAD_S, passes
from kamerton.hosted.convert import ChatFile

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.fine_tuning import FineTuningJob

RUN, NONCE = "kamerton_run", "kamerton_nonce"  # keys of a job's metadata
TRIES, LONGEST_PAUSE = 6, 60.0
CLOCK_SKEW_S = 86_400
_PAGE = 100

Sleep = Callable[[float], object]
_Made = TypeVar("_Made")


def once(find: Callable[[], _Made | None], make: Callable[[], _Made], sleep: Sleep) -> _Made:
    """Return what `find` finds, else what `make` creates.

    The client's own retries would repeat a request whose answer was lost, and create it twice.
    """
    from openai import APIError

    for attempt in range(TRIES):
        existing = find()
        if existing is not None:
            return existing
        try:
            return make()
        except APIError as error:
            if attempt == TRIES - 1 or not passes(error):
                raise
            sleep(_pause(error, attempt))
    raise AssertionError  # the last attempt returns or raises


def _pause(error: Any, attempt: int) -> float:
    """Return the seconds until the next attempt: the endpoint's Retry-After, else twice as long each time."""
    retry_after = getattr(getattr(error, "response", None), "headers", {}).get("retry-after")
    with contextlib.suppress(ValueError):
        return min(LONGEST_PAUSE, max(0.0, float(retry_after or "")))
    return min(LONGEST_PAUSE, 2.0**attempt) * random.uniform(0.5, 1.0)


def upload(client: OpenAI, file: ChatFile, recorded: str | None, sleep: Sleep) -> str:
    """Return the id of the file at the endpoint: the recorded one, one with this content, else a new one."""

    def find() -> str | None:
        from openai import NotFoundError

        if recorded is not None:
            with contextlib.suppress(NotFoundError):
                if client.files.retrieve(recorded).status != "error":
                    return recorded
        for uploaded in client.files.list(purpose="fine-tune"):  # its name contains the digest of its content
            is_same = uploaded.filename == file.name and uploaded.bytes == len(file.content)
            if is_same and uploaded.purpose == "fine-tune" and uploaded.status != "error":
                return uploaded.id
        return None

    def make() -> str:
        single = client.with_options(max_retries=0, timeout=UPLOAD_S)
        return single.files.create(file=(file.name, file.content, "application/jsonl"), purpose="fine-tune").id

    return once(find, make, sleep)


def create_job(
    client: OpenAI, request: dict[str, Any], run_id: str, nonce: str, since: float, sleep: Sleep
) -> FineTuningJob:
    """Return the job with this nonce: an existing one (created after `since`), else a new one."""
    single = client.with_options(max_retries=0)
    metadata = {RUN: run_id, NONCE: nonce}
    return once(
        lambda: find_job(client, nonce, since),
        lambda: single.fine_tuning.jobs.create(**request, metadata=metadata),
        sleep,
    )


def find_job(client: OpenAI, nonce: str, since: float) -> FineTuningJob | None:
    """Return the job with this nonce in its metadata; jobs come newest first, and those before the run are skipped."""
    for job in client.fine_tuning.jobs.list(limit=_PAGE):
        if (job.metadata or {}).get(NONCE) == nonce:
            return job
        if job.created_at < since - CLOCK_SKEW_S:
            return None
    return None
