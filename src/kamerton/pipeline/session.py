"""The open run that the steps of `kamerton.pipeline.run` share, from opening to release."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from kamerton.config.schema import Config
from kamerton.config.secrets import redacted
from kamerton.console import plain_console
from kamerton.cores import set_threads
from kamerton.decide.report.run import write_report
from kamerton.pipeline.lifecycle import recorded
from kamerton.pipeline.shared_cache import SharedCache
from kamerton.run.directory import RunDirectory
from kamerton.run.distributed import rank_info
from kamerton.run.opening import open_run
from kamerton.train.callbacks import StopRequest, stop_on_signal
from kamerton.train.steps import with_recorded_defaults


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of a run: its directory and its metrics by split (`test`, `base`, `validation`, `best`, `train`)."""

    run_id: str
    path: Path
    state: str
    metrics: dict[str, dict[str, float]]


def result_of(run: RunDirectory) -> RunResult:
    """Return the result of a run of this process; only rank 0 has the metrics."""
    if not run.writes:
        return RunResult(run.run_id, run.path, "running", {})
    return RunResult(run.run_id, run.path, str(run.record.state), run.values.get("metrics", {}))


@dataclass(frozen=True, slots=True)
class Invocation:
    """How a run was requested, apart from its configuration.

    `unresolved` are the configuration's values with `${oc.env:NAME}` unresolved, as files store them. Runs of one
    process share `shared_cache`.
    """

    overrides: Sequence[str] = ()
    console: Console | None = None
    unresolved: Mapping[str, Any] | None = None
    shared_cache: SharedCache | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """An open run directory, its configuration, and what every step may use."""

    config: Config
    run: RunDirectory
    stop: StopRequest
    console: Console
    shared_cache: SharedCache | None


@contextmanager
def open_session(
    config: Config,
    invocation: Invocation,
    home: Path | None = None,
    facts: Mapping[str, Any] | None = None,
    *,
    reopens: bool = False,
    report: Callable[[Path], Path] | None = write_report,
) -> Iterator[Session]:
    """Open the run directory, and record in `run.json` how the block ends.

    `home` is the parent folder of a run that belongs to a sweep or cross-validation, and `facts` are added to its
    record. `reopens`: also open a run that finished unscored, as trials do. `report` writes the report of a run that
    stops early.
    """
    console = invocation.console or plain_console(quiet=rank_info().rank > 0)
    values = redacted(dataclasses.asdict(config), invocation.unresolved or {})
    opened = open_run(values, home, reopens=reopens)
    set_threads(config.threads)
    with stop_on_signal() as stop, recorded(opened, invocation.overrides, report) as run:
        run.update(**(facts or {}))
        yield Session(with_recorded_defaults(config, run), run, stop, console, invocation.shared_cache)
