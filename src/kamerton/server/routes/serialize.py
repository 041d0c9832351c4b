"""Jobs and checkpoints in OpenAI's shape, from run directories."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from kamerton.jobs.store import active_process, mark_if_lost, record_of
from kamerton.run.directory import ENDED
from kamerton.server.ids import job_paths, job_record
from kamerton.server.routes.models import MODEL, step_of, tuned_name
from kamerton.server.routes.sanitize import error_of
from kamerton.server.settings import Settings


def records_of(settings: Settings, tenant: str) -> list[tuple[Path, Mapping[str, Any]]]:
    """The tenant's jobs, the newest first, each with its run directory."""
    found = [(path, job_record(path)) for path in job_paths(settings, tenant)]
    jobs = [(path, record) for path, record in found if "request" in record]
    return sorted(jobs, key=lambda job: (job[1]["request"]["created"], job[0].name), reverse=True)


def show_job(settings: Settings, path: Path) -> dict[str, Any]:
    """A job at this moment. One that rests has the status `paused`, which the types of `openai` do not know."""
    mark_if_lost(path)
    is_busy = active_process(path) is not None
    record = record_of(path)
    asked, state = record["request"], str(record.get("state") or "queued")
    state = "running" if state == "paused" and is_busy else state  # it may still become `cancelled`
    done, progress = state == "succeeded", record.get("progress") or {}
    used = asked["hyperparameters"]
    return {
        "id": path.name,
        "object": "fine_tuning.job",
        "created_at": int(asked["created"]),
        "finished_at": seconds((record.get("times") or {}).get("finished")) if state in ENDED else None,
        "estimated_finish": _estimate(record) if state == "running" else None,
        "status": state,
        "error": error_of(settings, path, record),
        "model": asked["model"],
        "fine_tuned_model": name_in(path, asked) if done else None,
        "organization_id": path.parent.name,
        "training_file": asked["training_file"],
        "validation_file": asked["validation_file"],
        "result_files": [],
        "hyperparameters": used,
        "method": {"type": "supervised", "supervised": {"hyperparameters": used}},
        "seed": asked["seed"],
        "trained_tokens": progress.get("tokens") if done else None,
        "integrations": [],
        "metadata": asked["metadata"],
    }


def name_in(path: Path, asked: dict[str, Any]) -> str:
    """What the model of a job is called, or will be."""
    return tuned_name(asked["model"], path.parent.name, asked["suffix"], path.name)


def checkpoints_of(path: Path) -> list[dict[str, Any]]:
    """The checkpoints that can be asked: the one whose weights a finished job's model has."""
    record = record_of(path)
    if record.get("state") != "succeeded" or not (path / MODEL).is_dir():
        return []
    metrics = record.get("metrics") or {}
    best, train = metrics.get("best") or {}, metrics.get("train") or {}
    step = step_of(record)
    found = {
        "step": step,
        "train_loss": train.get("loss"),
        "train_mean_token_accuracy": train.get("token_accuracy"),
        "valid_loss": best.get("loss"),
        "valid_mean_token_accuracy": best.get("token_accuracy"),
        "full_valid_loss": best.get("loss"),
        "full_valid_mean_token_accuracy": best.get("token_accuracy"),
    }
    one = {
        "id": f"ftckpt-{path.name.removeprefix('ftjob-')}-{step}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": int((path / MODEL).stat().st_mtime),
        "fine_tuned_model_checkpoint": f"{name_in(path, record['request'])}:ckpt-step-{step}",
        "fine_tuning_job_id": path.name,
        "metrics": found,
        "step_number": step,
    }
    return [one]


def seconds(time: str | None) -> int | None:
    """A moment of a record as seconds since 1970."""
    return None if time is None else int(datetime.fromisoformat(time).timestamp())


def _estimate(record: dict[str, Any]) -> int | None:
    left, since = (record.get("progress") or {}).get("eta_s"), seconds(record.get("heartbeat"))
    return None if left is None or since is None else since + int(left)
