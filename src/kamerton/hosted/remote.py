"""Requests that make something at the endpoint, each made once: after a lost answer it is looked for first."""

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

RUN, NONCE = "kamerton_run", "kamerton_nonce"  # of a job's metadata
TRIES, LONGEST_PAUSE = 6, 60.0
CLOCK_SKEW_S = 86_400
_PAGE = 100

Sleep = Callable[[float], object]
_Made = TypeVar("_Made")


def once(find: Callable[[], _Made | None], make: Callable[[], _Made], sleep: Sleep) -> _Made:
    """What `find` finds, else what `make` makes.

    The client itself would send a request again whose answer was lost, and make the thing twice.
    """
    from openai import APIError

    for attempt in range(TRIES):
        found = find()
        if found is not None:
            return found
        try:
            return make()
        except APIError as error:
            if attempt == TRIES - 1 or not passes(error):
                raise
            sleep(_pause(error, attempt))
    raise AssertionError  # the last attempt returns or raises


def _pause(error: Any, attempt: int) -> float:
    """Seconds until the next attempt: what the endpoint asks for, else twice as long each time."""
    asked = getattr(getattr(error, "response", None), "headers", {}).get("retry-after")
    with contextlib.suppress(ValueError):
        return min(LONGEST_PAUSE, max(0.0, float(asked or "")))
    return min(LONGEST_PAUSE, 2.0**attempt) * random.uniform(0.5, 1.0)


def upload(client: OpenAI, file: ChatFile, known: str | None, sleep: Sleep) -> str:
    """The id of the file at the endpoint: the one that is known, one with this content, else a new one."""

    def find() -> str | None:
        return _still_there(client, known) or _same_file(client, file)

    def make() -> str:
        patient = client.with_options(max_retries=0, timeout=UPLOAD_S)
        return patient.files.create(file=(file.name, file.content, "application/jsonl"), purpose="fine-tune").id

    return once(find, make, sleep)


def _still_there(client: OpenAI, known: str | None) -> str | None:
    from openai import NotFoundError

    if known is None:
        return None
    try:
        return known if client.files.retrieve(known).status != "error" else None
    except NotFoundError:
        return None


def _same_file(client: OpenAI, file: ChatFile) -> str | None:
    """A file whose name says that it has the same content."""
    for one in client.files.list(purpose="fine-tune"):
        same = one.filename == file.name and one.bytes == len(file.content)
        if same and one.purpose == "fine-tune" and one.status != "error":
            return one.id
    return None


def create_job(
    client: OpenAI, request: dict[str, Any], run_id: str, nonce: str, since: float, sleep: Sleep
) -> FineTuningJob:
    """The job of the run that has this nonce: the one that is there (begun after `since`), else a new one."""
    patient = client.with_options(max_retries=0)
    metadata = {RUN: run_id, NONCE: nonce}
    return once(
        lambda: find_job(client, nonce, since),
        lambda: patient.fine_tuning.jobs.create(**request, metadata=metadata),
        sleep,
    )


def find_job(client: OpenAI, nonce: str, since: float) -> FineTuningJob | None:
    """The job whose metadata hold the nonce; the newest come first, and older ones than the run are not looked at."""
    for job in client.fine_tuning.jobs.list(limit=_PAGE):
        if (job.metadata or {}).get(NONCE) == nonce:
            return job
        if job.created_at < since - CLOCK_SKEW_S:
            return None
    return None
