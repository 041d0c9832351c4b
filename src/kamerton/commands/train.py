"""`kamerton train`: check what was typed and the data it names, then train, once or for each point of a sweep."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from kamerton.config.check import to_config
from kamerton.config.command import Asked, Compose, Done, Point, run_command, typed
from kamerton.config.hosted import is_hosted
from kamerton.config.origin import key_of
from kamerton.config.schema import Config
from kamerton.config.secrets import writable
from kamerton.errors import Cancelled, Interrupted, RunFailed
from kamerton.hosted.check import deep_faults
from kamerton.mask import mask_text
from kamerton.output import echo
from kamerton.quiet import quiet_training
from kamerton.run.directory import read_record
from kamerton.run.opening import finished_run
from kamerton.shell import train_line

if TYPE_CHECKING:
    from hydra_plugins.kamerton._results import Finished
    from kamerton.pipeline.shared_cache import SharedCache


def train_command(arguments: Sequence[str]) -> int:
    """Everything between the command line and `train`; returns the exit code."""
    shared: dict[str, SharedCache] = {}  # by the points of a sweep

    def job(values: dict[str, Any], asked: Asked) -> Done | None:
        try:
            return trained(values, asked)
        except Interrupted as stopped:
            if _stops_with_rank_0(stopped):
                return None
            raise

    def trained(values: dict[str, Any], asked: Asked) -> Done | None:
        quiet_training()
        in_grid = HydraConfig.get().mode is RunMode.MULTIRUN
        if in_grid and values.get("resume") == "auto" and (done := _done_before(values, asked)):
            return done
        if is_hosted(values):
            return _hosted(values, asked)
        from kamerton.pipeline.cross_validation import cross_validate
        from kamerton.pipeline.run import train
        from kamerton.pipeline.shared_cache import SharedCache
        from kamerton.run.distributed import leave_group
        from kamerton.sweep.job import trial_job

        config = to_config(values)
        overrides = [*asked.search, *map(mask_text, asked.overrides)]
        kept = shared.setdefault("warm", SharedCache()) if in_grid else None
        trial = trial_job(config, overrides, asked.named, kept)
        if trial is not None:
            with _ranks_rerun_this(asked):
                return trial()
        fit = train if config.cv.folds is None else cross_validate
        with _ranks_rerun_this(asked):
            try:
                result = fit(config, overrides, unresolved=asked.named, shared_cache=kept)
            except Interrupted as stopped:
                raise Interrupted(_again(asked, config, str(stopped))) from stopped
            finally:
                if kept is not None:
                    leave_group()
        return _done(result.metrics, result.path)

    def finish(end: Finished, compose: Compose, search: tuple[str, ...]) -> None:
        quiet_training()
        from kamerton.sweep.final_test import winner
        from kamerton.sweep.finish import end_sweep

        words = (*winner(end).overrides, "hydra.mode=RUN") if end.best else ()
        with _ranks_rerun_this(Asked(words, search)):
            end_sweep(end, compose, search=search)

    return run_command(arguments, job, deep_faults, _summary, finish=finish)


def _done(metrics: Mapping[str, Any], path: Path) -> Done:
    """A run that is finished, or a cross-validation, which has the mean of its folds."""
    return Done(metrics.get("best", {}).get("loss"), metrics.get("test") or metrics.get("mean") or {}, path)


def _done_before(values: dict[str, Any], asked: Asked) -> Done | None:
    """A point of a grid that goes on, if its run is finished."""
    path = finished_run(writable(dataclasses.asdict(to_config(values)), asked.named))
    if path is None:
        return None
    echo(f"{path.parent.name}/{path.name} is finished already: {path / 'report.html'}")
    return _done((read_record(path) or {}).get("metrics") or {}, path)


def _hosted(values: dict[str, Any], asked: Asked) -> Done | None:
    """A model that is trained at an endpoint."""
    from kamerton.hosted.openai import dry_run, train_hosted

    config, overrides = to_config(values), [*asked.search, *map(mask_text, asked.overrides)]
    if config.model.dry_run:
        dry_run(config, overrides)
        return None
    try:
        result = train_hosted(config, overrides, unresolved=asked.named)
    except Interrupted as stopped:
        raise Interrupted(_again(asked, config, str(stopped))) from stopped
    except Cancelled as cancelled:
        raise RunFailed(cancelled.fault) from cancelled
    return Done(None, result.metrics.get("test", {}), result.path)


def _stops_with_rank_0(stopped: BaseException) -> bool:
    """Whether this is a rank that Lightning started, and all stop as agreed: rank 0 says so, and has more to do.

    With another exit code than 0, Lightning kills rank 0 within seconds.
    """
    from kamerton.run.distributed import rank_info

    here = rank_info()
    while stopped.__cause__ is not None:
        stopped = stopped.__cause__
    return here.rank > 0 and here.launcher is None and isinstance(stopped, Interrupted)


def _again(asked: Asked, config: Config, run_id: str) -> str:
    """How to go on with this one run, also when it is a point of a sweep."""
    words = [text for text in asked.overrides if key_of(text) not in ("run_id", "resume")]
    kept = [text for text in asked.overrides if key_of(text) == "resume" and config.resume == "force"]
    line = train_line(asked.search, words, config.paths.outputs, *kept, f"run_id={run_id}")
    return f"interrupted; go on with:\n  {line}"


def _summary(points: Sequence[Point]) -> None:
    from kamerton.pipeline.sweep_table import print_sweep_table

    print_sweep_table(points)


@contextmanager
def _ranks_rerun_this(asked: Asked) -> Iterator[None]:
    """What Lightning starts for the other ranks: this one run, also when it is a job of a sweep.

    Lightning repeats `sys.argv`, and adds options of its own when it sees Hydra at work; so Hydra is hidden from it.
    """
    command = [] if Path(sys.argv[0]).name == "train.py" else ["train"]
    state: Any = HydraConfig.instance().cfg
    HydraConfig.instance().cfg = None
    with typed([*command, *asked.search, *asked.overrides, "hydra.mode=RUN"]):  # whatever sweep=… says
        try:
            yield
        finally:
            HydraConfig.instance().cfg = state
