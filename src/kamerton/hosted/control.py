"""Cancel or pause the job of any run at its endpoint. Reads the run directory."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kamerton.endpoint import (
    Endpoint,
    connect,
    endpoint_faults,
    find_endpoint,
    translated,
    untrusted,
    untrusted_key,
)
from kamerton.errors import Fault, UserError
from kamerton.files import load_yaml
from kamerton.hosted.remote import find_job
from kamerton.locks import acquire
from kamerton.run.directory import ENDED, RunDirectory, read_values, record_at
from kamerton.run.opening import LOCK
from kamerton.run.record import Record

if TYPE_CHECKING:
    from openai import OpenAI

_CANNOT = (400, 404, 405, 409, 501)  # how an endpoint answers that it cannot do that, or that the job has ended


def at_work_elsewhere(record: Record) -> bool:
    """Return whether a run may have an unfinished job at an endpoint."""
    return bool(record.hosted.job_id or record.hosted.nonce) and record.hosted.ended is None


def endpoint_of(path: Path) -> Endpoint:
    """Return the endpoint of a run; raises `UserError` if the key is missing or the address is not trusted."""
    config: Mapping[str, Any] = load_yaml((path / "config.yaml").read_text(encoding="utf-8")).get("model") or {}
    url = config.get("base_url")
    faults = [fault for fault in (untrusted(url), untrusted_key(config.get("key"))) if fault]
    endpoint = find_endpoint(url, config.get("key"))
    recorded = record_at(path).hosted.base_url
    if recorded not in (None, endpoint.shown):
        fix = f"set OPENAI_BASE_URL={recorded}, if you trust it"
        faults.append(Fault("hosted.moved", f"the run was begun at {recorded}", fix, file=str(path)))
    if faults := [*faults, *endpoint_faults(endpoint)]:
        raise UserError(faults)
    return endpoint


def end_remote(path: Path, state: Literal["cancelled", "paused"]) -> None:
    """Cancel or pause the job of a run that no process follows, and record that. An ended job stays as it is."""
    endpoint, record = endpoint_of(path), record_at(path)
    with translated(endpoint):
        client = connect(endpoint)
        job_id = record.hosted.job_id
        if not job_id:  # the job's creation may have been interrupted before its id was recorded
            since = datetime.fromisoformat(str(record.times.created)).timestamp()
            job = find_job(client, str(record.hosted.nonce), since)
            if job is None:
                return
            job_id = job.id
        done = _cancel(client, job_id) if state == "cancelled" else _pause(client, job_id)
    lock = acquire(path / LOCK)
    if lock is None:  # another process has resumed it
        return
    with lock:
        run = RunDirectory(path, resuming=True, started=read_values(path))
        run.update(hosted={"job_id": job_id, **done})
        if done.get("paused") is False:
            message = f"the endpoint cannot pause job {job_id}: it continues there"
            run.event("warn", "hosted.no-pause", message, advice="resume the run to follow it again, or stop it")


def _cancel(client: OpenAI, job_id: str) -> dict[str, Any]:
    from openai import APIStatusError

    try:
        status: str = client.fine_tuning.jobs.cancel(job_id).status
    except APIStatusError as error:
        status = client.fine_tuning.jobs.retrieve(job_id).status if error.status_code in _CANNOT else ""
        if status not in ENDED:
            raise
    return {"ended": "cancelled"} if status != "succeeded" else {}  # a job that succeeded can still be evaluated


def _pause(client: OpenAI, job_id: str) -> dict[str, Any]:
    from openai import APIStatusError

    try:
        client.fine_tuning.jobs.pause(job_id)
    except APIStatusError as error:
        if error.status_code not in _CANNOT:
            raise
        return {"paused": False}
    return {"paused": True}
