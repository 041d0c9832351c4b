"""`kamerton train`: check what was typed and the data it names, then train, once or for each point of a sweep."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from kamerton.config.command import Compose, run_command
from kamerton.config.hosted import is_hosted
from kamerton.config.jobs import JobRequest, JobResult, SweepJob
from kamerton.config.origin import key_of
from kamerton.config.schema import Config
from kamerton.config.secrets import redacted
from kamerton.errors import Cancelled, Interrupted, RunFailed
from kamerton.hosted.check import preflight_faults
from kamerton.mask import mask_text
from kamerton.output import echo
from kamerton.quiet import quiet_training
from kamerton.run.directory import record_at
from kamerton.run.opening import finished_run
from kamerton.shell import as_arguments, train_line

if TYPE_CHECKING:
    from hydra_plugins.kamerton._results import Finished
    from kamerton.pipeline.shared_cache import SharedCache


def train_command(arguments: Sequence[str]) -> int:
    """Run `kamerton train` and return its exit code."""
    shared: dict[str, SharedCache] = {}  # by the jobs of a sweep
    job = partial(_train_as_rank, shared=shared)
    return run_command(arguments, job, preflight_faults, _print_table, finish=_finish_sweep)


def _train_as_rank(request: JobRequest[Config], *, shared: dict[str, SharedCache]) -> JobResult | None:
    try:
        return _train(request, shared)
    except Interrupted as stopped:
        if _stops_with_rank_0(stopped):
            return None
        raise


def _train(request: JobRequest[Config], shared: dict[str, SharedCache]) -> JobResult | None:
    """Train one run, one trial of a sweep, or all folds of a cross-validation."""
    quiet_training()
    config = request.options
    in_grid = HydraConfig.get().mode is RunMode.MULTIRUN
    if in_grid and config.resume == "auto":  # the grid may be a resumed one
        path = finished_run(redacted(dataclasses.asdict(config), request.unresolved))
        if path is not None:
            echo(f"{path.parent.name}/{path.name} is finished already: {path / 'report.html'}")
            return _result(record_at(path).metrics, path)
    if is_hosted(request.values):
        return _train_hosted(request)
    from kamerton.pipeline.cross_validation import cross_validate
    from kamerton.pipeline.run import train
    from kamerton.pipeline.session import Invocation
    from kamerton.pipeline.shared_cache import SharedCache
    from kamerton.run.distributed import leave_group
    from kamerton.sweep.job import trial_job

    cache = shared.setdefault("cache", SharedCache()) if in_grid else None
    invocation = Invocation(_masked_words(request), unresolved=request.unresolved, shared_cache=cache)
    trial = trial_job(config, invocation)
    with _ranks_rerun(request.search, request.overrides):
        if trial is not None:
            return trial()
        fit = train if config.cv.folds is None else cross_validate
        try:
            result = fit(config, invocation)
        except Interrupted as stopped:
            raise Interrupted(_resume_command(request, str(stopped))) from stopped
        finally:
            if cache is not None:
                leave_group()
    return _result(result.metrics, result.path)


def _finish_sweep(end: Finished, compose: Compose, search: tuple[str, ...]) -> None:
    """Score the best trial of a study's sweep and write its report."""
    quiet_training()
    from kamerton.sweep.final_test import winner
    from kamerton.sweep.finish import end_sweep

    with _ranks_rerun(search, winner(end).overrides if end.best else ()):
        end_sweep(end, compose, search=search)


def _result(metrics: Mapping[str, Any], path: Path) -> JobResult:
    """The result of a finished run, or of a cross-validation, which has the mean of its folds."""
    return JobResult(metrics.get("best", {}).get("loss"), metrics.get("test") or metrics.get("mean") or {}, path)


def _train_hosted(request: JobRequest[Config]) -> JobResult | None:
    """Train a model at an endpoint."""
    from kamerton.hosted.openai import dry_run, train_hosted
    from kamerton.pipeline.session import Invocation

    config, invocation = request.options, Invocation(_masked_words(request), unresolved=request.unresolved)
    if config.model.dry_run:
        dry_run(config, invocation)
        return None
    try:
        result = train_hosted(config, invocation)
    except Interrupted as stopped:
        raise Interrupted(_resume_command(request, str(stopped))) from stopped
    except Cancelled as cancelled:
        raise RunFailed(cancelled.fault) from cancelled
    return JobResult(None, result.metrics.get("test", {}), result.path)


def _masked_words(request: JobRequest[Config]) -> list[str]:
    """The words of a job as they go into its files."""
    return [*request.search, *map(mask_text, request.overrides)]


def _stops_with_rank_0(stopped: BaseException) -> bool:
    """Whether this is a rank that Lightning started, and all stop as agreed: rank 0 reports it, and has more to do.

    With another exit code than 0, Lightning kills rank 0 within seconds.
    """
    from kamerton.run.distributed import rank_info

    here = rank_info()
    while stopped.__cause__ is not None:
        stopped = stopped.__cause__
    return here.rank > 0 and here.launcher is None and isinstance(stopped, Interrupted)


def _resume_command(request: JobRequest[Config], run_id: str) -> str:
    """How to resume this one run, also when it is a job of a sweep."""
    words = [text for text in request.overrides if key_of(text) not in ("run_id", "resume")]
    forced = request.options.resume == "force"
    kept = [text for text in request.overrides if key_of(text) == "resume" and forced]
    line = train_line(request.search, words, request.options.paths.outputs, *kept, f"run_id={run_id}")
    return f"interrupted; resume with:\n  {line}"


def _print_table(jobs: Sequence[SweepJob]) -> None:
    from kamerton.pipeline.sweep_table import print_sweep_table

    print_sweep_table(jobs)


@contextmanager
def _ranks_rerun(search: Sequence[str], overrides: Sequence[str]) -> Iterator[None]:
    """Make Lightning start the other ranks with this one run, also if it is a job of a sweep.

    Lightning repeats `sys.argv`, and adds options of its own if Hydra is at work, so Hydra is hidden from it.
    """
    command = [] if Path(sys.argv[0]).name == "train.py" else ["train"]
    state: Any = HydraConfig.instance().cfg
    HydraConfig.instance().cfg = None
    with as_arguments([*command, *search, *overrides, "hydra.mode=RUN"]):  # whatever sweep=… says
        try:
            yield
        finally:
            HydraConfig.instance().cfg = state
