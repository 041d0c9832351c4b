"""Whether a Hydra job is a trial of a sweep, and what it then runs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from kamerton.config.jobs import JobResult
from kamerton.config.schema import Config
from kamerton.config.sweep import is_study
from kamerton.errors import Interrupted
from kamerton.pipeline.session import Invocation
from kamerton.run.directory import record_at
from kamerton.run.distributed import RUN_DIR, rank_info
from kamerton.sweep.trial import join_trial, run_trial


def trial_job(config: Config, invocation: Invocation) -> Callable[[], JobResult] | None:
    """Return what this job runs as a trial of a sweep, or as another rank of one; None for an ordinary run."""
    if not HydraConfig.initialized() or not is_study(HydraConfig.get()):
        return None
    if rank_info().rank > 0 and rank_info().launcher is None:
        return _rank_job(config, Path(os.environ[RUN_DIR]), invocation)
    from hydra_plugins.kamerton.trial import current_trial

    trial = current_trial()
    if trial is None:
        return None
    folder = Path(HydraConfig.get().sweep.dir).absolute()

    def job() -> JobResult:
        try:
            values = run_trial(config, trial, folder, invocation)
        except Interrupted as stopped:
            raise Interrupted(
                "interrupted; the same command resumes this sweep, beginning with this trial"
            ) from stopped
        return JobResult(values if len(values) > 1 else values[0], {}, folder)

    return job


def _rank_job(config: Config, folder: Path, invocation: Invocation) -> Callable[[], JobResult] | None:
    record = record_at(folder)
    if record.trial is None or record.final:
        return None

    def job() -> JobResult:
        join_trial(config, folder, dataclasses.replace(invocation, shared_cache=None))
        return JobResult(None, {}, folder)

    return job
