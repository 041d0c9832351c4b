"""Stopping or pausing what a run has at its endpoint, whoever started it. Reads the run directory."""

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
from kamerton.run.directory import ENDED, RunDirectory, read_record
from kamerton.run.opening import LOCK

if TYPE_CHECKING:
    from openai import OpenAI

_CANNOT = (400, 404, 405, 409, 501)  # how an endpoint says that it has no such thing, or that there is nothing left


def at_work_elsewhere(record: Mapping[str, Any]) -> bool:
    """Whether a run may have a job at an endpoint that has not ended."""
    hosted = record.get("hosted") or {}
    return bool(hosted.get("job_id") or hosted.get("nonce")) and hosted.get("ended") is None


def endpoint_of(path: Path) -> Endpoint:
    """The endpoint of a run; raises `UserError` where the key is missing or the address is nobody's here."""
    config: Mapping[str, Any] = load_yaml((path / "config.yaml").read_text(encoding="utf-8")).get("model") or {}
    written = config.get("base_url")
    faults = [fault for fault in (untrusted(written), untrusted_key(config.get("key"))) if fault]
    endpoint = find_endpoint(written, config.get("key"))
    begun = ((read_record(path) or {}).get("hosted") or {}).get("base_url")
    if begun not in (None, endpoint.shown):
        fix = f"set OPENAI_BASE_URL={begun}, if you trust it"
        faults.append(Fault("hosted.moved", f"the run was begun at {begun}", fix, file=str(path)))
    if faults := [*faults, *endpoint_faults(endpoint)]:
        raise UserError(faults)
    return endpoint


def end_remote(path: Path, state: Literal["cancelled", "paused"]) -> None:
    """Cancel or pause the job of a run that nobody follows now, and record that. One that has ended stays as it is."""
    endpoint, record = endpoint_of(path), read_record(path) or {}
    with translated(endpoint):
        client = connect(endpoint)
        job_id = _job_id(client, record)
        if job_id is None:
            return
        done = _cancel(client, job_id) if state == "cancelled" else _pause(client, job_id)
    _record(path, {"job_id": job_id, **done})


def _job_id(client: OpenAI, record: Mapping[str, Any]) -> str | None:
    """The recorded job, or one whose creation was interrupted."""
    hosted = record.get("hosted") or {}
    if hosted.get("job_id"):
        return str(hosted["job_id"])
    since = datetime.fromisoformat(record["times"]["created"]).timestamp()
    found = find_job(client, str(hosted["nonce"]), since)
    return found.id if found else None


def _cancel(client: OpenAI, job_id: str) -> dict[str, Any]:
    from openai import APIStatusError

    try:
        status: str = client.fine_tuning.jobs.cancel(job_id).status
    except APIStatusError as error:
        status = client.fine_tuning.jobs.retrieve(job_id).status if error.status_code in _CANNOT else ""
        if status not in ENDED:
            raise
    return {"ended": "cancelled"} if status != "succeeded" else {}  # what has succeeded can still be evaluated


def _pause(client: OpenAI, job_id: str) -> dict[str, Any]:
    from openai import APIStatusError

    try:
        client.fine_tuning.jobs.pause(job_id)
    except APIStatusError as error:
        if error.status_code not in _CANNOT:
            raise
        return {"paused": False}
    return {"paused": True}


def _record(path: Path, hosted: dict[str, Any]) -> None:
    lock = acquire(path / LOCK)
    if lock is None:  # somebody goes on with it
        return
    with lock:
        run = RunDirectory(path, resuming=True, started=read_record(path))
        run.update(hosted=hosted)
        if hosted.get("paused") is False:
            message = f"the endpoint cannot pause job {hosted['job_id']}: it goes on there"
            run.event("warn", "hosted.no-pause", message, advice="resume the run to follow it again, or stop it")
