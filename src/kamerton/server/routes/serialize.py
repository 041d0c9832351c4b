"""Jobs and checkpoints in OpenAI's format, read from run directories."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from kamerton.jobs.store import active_process, mark_if_lost, record_of
from kamerton.run.directory import ENDED
from kamerton.run.record import Record
from kamerton.server.ids import job_paths, job_record, request_of
from kamerton.server.routes.models import MODEL, step_of, tuned_name
from kamerton.server.routes.sanitize import error_of
from kamerton.server.settings import Settings


def records_of(settings: Settings, tenant: str) -> list[tuple[Path, Record]]:
    """Return run directory and record of each of the tenant's jobs, newest first."""
    records = [(path, job_record(path)) for path in job_paths(settings, tenant)]
    jobs = [(path, record) for path, record in records if record.request is not None]
    return sorted(jobs, key=lambda job: (request_of(job[1])["created"], job[0].name), reverse=True)


def show_job(settings: Settings, path: Path) -> dict[str, Any]:
    """Return the current state of a job. The status `paused` is an extension of OpenAI's format."""
    mark_if_lost(path)
    has_process = active_process(path) is not None
    record = record_of(path)
    request, state = request_of(record), str(record.state or "queued")
    state = "running" if state == "paused" and has_process else state  # it may still become `cancelled`
    succeeded, progress = state == "succeeded", record.progress
    remaining, heartbeat = progress.eta_s, seconds(record.heartbeat)
    estimate = None
    if state == "running" and remaining is not None and heartbeat is not None:
        estimate = heartbeat + int(remaining)
    hyperparameters = request["hyperparameters"]
    return {
        "id": path.name,
        "object": "fine_tuning.job",
        "created_at": int(request["created"]),
        "finished_at": seconds(record.times.finished) if state in ENDED else None,
        "estimated_finish": estimate,
        "status": state,
        "error": error_of(settings, path, record),
        "model": request["model"],
        "fine_tuned_model": name_in(path, request) if succeeded else None,
        "organization_id": path.parent.name,
        "training_file": request["training_file"],
        "validation_file": request["validation_file"],
        "result_files": [],
        "hyperparameters": hyperparameters,
        "method": request.get("method") or {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        "seed": request["seed"],
        "trained_tokens": progress.tokens if succeeded else None,
        "integrations": [],
        "metadata": request["metadata"],
    }


def name_in(path: Path, request: dict[str, Any]) -> str:
    """Return the name that a job's model has or will have."""
    return tuned_name(request["model"], path.parent.name, request["suffix"], path.name)


def checkpoints_of(path: Path) -> list[dict[str, Any]]:
    """Return the checkpoints that can be used: for a finished job the one of its model, else none."""
    record = record_of(path)
    if record.state != "succeeded" or not (path / MODEL).is_dir():
        return []
    best, train = record.metrics.get("best", {}), record.metrics.get("train", {})
    step = step_of(record)
    values = {
        "step": step,
        "train_loss": train.get("loss"),
        "train_mean_token_accuracy": train.get("token_accuracy"),
        "valid_loss": best.get("loss"),
        "valid_mean_token_accuracy": best.get("token_accuracy"),
        "full_valid_loss": best.get("loss"),
        "full_valid_mean_token_accuracy": best.get("token_accuracy"),
    }
    if "reward" in best:
        values["full_valid_mean_reward"] = best["reward"]
    checkpoint = {
        "id": f"ftckpt-{path.name.removeprefix('ftjob-')}-{step}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": int((path / MODEL).stat().st_mtime),
        "fine_tuned_model_checkpoint": f"{name_in(path, request_of(record))}:ckpt-step-{step}",
        "fine_tuning_job_id": path.name,
        "metrics": values,
        "step_number": step,
    }
    return [checkpoint]


def seconds(time: str | None) -> int | None:
    """Return an ISO 8601 time of a record in seconds since 1970."""
    return None if time is None else int(datetime.fromisoformat(time).timestamp())
