"""What a worker records before training reports anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hydra_plugins.kamerton._gpus import VISIBLE
from kamerton.jobs import worker
from kamerton.jobs.store import record_of
from kamerton.run.directory import RunDirectory


def test_a_started_job_is_no_longer_queued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the data are invalid, the record only says that the job failed."""
    monkeypatch.setenv(VISIBLE, "")
    path = tmp_path / "jsonl" / "one"
    path.mkdir(parents=True)
    (path / "config.yaml").write_text("trainer: {accelerator: cpu}\n")
    job = {"overrides": [], "cwd": str(tmp_path), "limit": 1, "queued": 1}
    RunDirectory(path, resuming=False).set_state("queued", job=job)
    seen: list[str] = []

    class Training:
        def run(self, command: list[str], **options: Any) -> int:
            seen.append(str(record_of(path).state))
            return 0

    assert worker._train(path, Training()) == 0  # type: ignore[arg-type]
    assert seen == ["validating_files"]
