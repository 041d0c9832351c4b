"""One job of a command: what it is given, how it ended, and running it inside Hydra."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from hydra_plugins.kamerton import _jobs
from kamerton.config.sweep import begins_sweep
from kamerton.errors import Cancelled, Interrupted, RunFailed, UserError
from kamerton.output import echo, echo_traceback, print_faults

Values = dict[str, Any]
Options = TypeVar("Options")


@dataclass(frozen=True, slots=True)
class JobRequest(Generic[Options]):
    """What one job is asked to do.

    `options` are its validated configuration and `values` the same as plain values; `unresolved` has
    `${oc.env:NAME}` in place of what the environment holds. `overrides` were typed for the job (in a sweep, those of
    its point); `search` are the words that name the user's own configuration files (`config.search`).
    """

    options: Options
    values: Values
    unresolved: Values
    overrides: tuple[str, ...]
    search: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of a successful job: the value a sweep compares, the metrics to show, and the result's path."""

    value: float | list[float] | None
    metrics: dict[str, float]
    path: Path


@dataclass(slots=True)
class SweepJob:
    """One job of a command, and how it ended: `code` is its exit code, `error` the reason in one sentence.

    `raised` is the job's exception, which a sweeper may raise again, and `is_reported` whether it was printed.
    """

    overrides: tuple[str, ...]
    result: JobResult | None = None
    error: str | None = None
    code: int = 0
    raised: Exception | None = None
    is_reported: bool = False


class Stopped(BaseException):
    """The user asked to stop. Not an `Exception`: a sweep would continue with its next job."""


def run_task(
    config: Any,
    *,
    job: Callable[[JobRequest[Options]], JobResult | None],
    request: Callable[[Any, tuple[str, ...]], JobRequest[Options]],
    jobs: list[SweepJob],
) -> float | list[float] | None:
    """Run one job inside Hydra and return its value for the sweeper. `request` is called with the job's configuration
    and its overrides. How the job ended is appended to `jobs`.
    """
    task = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)  # as typed: ${oc.env:NAME} stays
    assert isinstance(task, list)
    current = SweepJob(tuple(str(text).removeprefix("++") for text in task))
    jobs.append(current)
    try:
        current.result = job(request(config, current.overrides))
    except Interrupted as error:
        current.error, current.code = "interrupted", 130
        raise Stopped from error
    except Exception as error:
        current.raised = error
        if isinstance(error, UserError):
            current.error, current.code = error.faults[0].message, 2
        else:
            failure = error.fault.message if isinstance(error, RunFailed) else f"{type(error).__name__}: {error}"
            current.error, current.code = failure, 1
        if not begins_sweep(HydraConfig.get()) or not isinstance(error, UserError | RunFailed):
            # a study's sweeper reports how a trial ended
            if isinstance(error, UserError):
                print_faults(error.faults)
            elif isinstance(error, RunFailed):
                echo(f"\n{error}", err=True)
            elif not isinstance(error.__cause__, Cancelled):  # a pruned trial is not an error
                echo_traceback(error)
            current.is_reported = True
        # Hydra's own sweeper continues with the next job; any other, and any launcher, must learn of the failure.
        if _jobs.launched or not HydraConfig.get().sweeper["_target_"].endswith(".BasicSweeper"):
            raise
    finally:
        done = {"metrics": result.metrics, "path": str(result.path)} if (result := current.result) else None
        _jobs.facts.update(done=done, error=current.error)  # plain values, for the process that started this one
    return current.result.value if current.result else None


def launched_jobs(finished: Sequence[_jobs.Job]) -> list[SweepJob]:
    """The jobs that ran in processes of their own. Prints the end of those that could not print it themselves."""
    jobs = []
    for job in finished:
        overrides = tuple(text.removeprefix("++") for text in job.overrides)
        if job.error is None:
            done = job.facts["done"]
            result = JobResult(job.value, done["metrics"], Path(done["path"])) if done else None
            jobs.append(SweepJob(overrides, result))
            continue
        if not job.facts:
            echo(f"\n{job.error}", err=True)
        error = str(job.facts.get("error") or job.error).splitlines()[0]
        jobs.append(SweepJob(overrides, None, error, job.code if job.code in (2, 130) else 1))
    return jobs
