"""`kamerton train`: check what was typed and the data it names, then train, once or for each point of a sweep."""

from __future__ import annotations

import dataclasses
import logging
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from kamerton import quiet
from kamerton.config.check import section, to_config
from kamerton.config.command import Asked, Compose, Done, Point, run_command, typed
from kamerton.config.schema import CvOptions
from kamerton.data.command import data_faults
from kamerton.data.options import SplitOptions
from kamerton.decide.mask import mask_text
from kamerton.errors import Cancelled, Fault, Interrupted, RunFailed
from kamerton.providers.options import is_hosted

if TYPE_CHECKING:
    from hydra_plugins.kamerton._results import Finished
    from kamerton.train.warm import Warm


def train_command(arguments: Sequence[str]) -> int:
    """Everything between the command line and `train`; returns the exit code."""
    shared: dict[str, Warm] = {}  # by the points of a sweep

    def job(values: dict[str, Any], asked: Asked) -> Done | None:
        try:
            return trained(values, asked)
        except Interrupted as stopped:
            if _stops_with_rank_0(stopped):
                return None
            raise

    def trained(values: dict[str, Any], asked: Asked) -> Done | None:
        quiet_frameworks()
        if is_hosted(values):
            return _hosted(values, asked, arguments)
        from kamerton.sweep.job import trial_job
        from kamerton.train.cross_validation import cross_validate
        from kamerton.train.ranks import part_ways
        from kamerton.train.run import train
        from kamerton.train.warm import Warm

        config = to_config(values)
        overrides = [mask_text(text) for text in asked.overrides]
        kept = shared.setdefault("warm", Warm()) if HydraConfig.get().mode is RunMode.MULTIRUN else None
        trial = trial_job(config, overrides, asked.named, kept)
        if trial is not None:
            with _ranks_rerun_this(asked):
                return trial()
        fit = train if config.cv.folds is None else cross_validate
        with _ranks_rerun_this(asked):
            try:
                result = fit(config, overrides, named=asked.named, warm=kept)
            except Interrupted as stopped:
                raise Interrupted(f"interrupted; go on with:\n  {_again(asked, arguments, str(stopped))}") from stopped
            finally:
                if kept is not None:
                    part_ways()
        shown = result.metrics.get("test" if config.cv.folds is None else "mean", {})
        return Done(result.metrics.get("best", {}).get("loss"), shown, result.path)

    def finish(end: Finished, compose: Compose, config_dir: str | None) -> None:
        quiet_frameworks()
        from kamerton.sweep.end import end_sweep
        from kamerton.sweep.final import winner

        words = (*winner(end).overrides, "hydra.mode=RUN") if end.best else ()
        with _ranks_rerun_this(Asked(words, config_dir)):
            end_sweep(end, compose, search=_search(config_dir, arguments))

    return run_command(arguments, job, deep_faults, _summary, finish=finish)


def _hosted(values: dict[str, Any], asked: Asked, arguments: Sequence[str]) -> Done | None:
    """A model that is trained at an endpoint."""
    from kamerton.providers.openai import dry_run, train_hosted

    config, overrides = to_config(values), [mask_text(text) for text in asked.overrides]
    if config.model.dry_run:
        dry_run(config, overrides)
        return None
    try:
        result = train_hosted(config, overrides, named=asked.named)
    except Interrupted as stopped:
        raise Interrupted(f"interrupted; go on with:\n  {_again(asked, arguments, str(stopped))}") from stopped
    except Cancelled as cancelled:
        raise RunFailed(cancelled.fault) from cancelled
    return Done(None, result.metrics.get("test", {}), result.path)


def _stops_with_rank_0(stopped: BaseException) -> bool:
    """Whether this is a rank that Lightning started, and all stop as agreed: rank 0 says so, and has more to do.

    With another exit code than 0, Lightning kills rank 0 within seconds.
    """
    from kamerton.train.ranks import place

    here = place()
    while stopped.__cause__ is not None:
        stopped = stopped.__cause__
    return here.rank > 0 and here.launcher is None and isinstance(stopped, Interrupted)


def _again(asked: Asked, arguments: Sequence[str], run_id: str) -> str:
    """The command that goes on with this one run, also when it is a point of a sweep."""
    words = [text for text in asked.overrides if not text.startswith("run_id=")]
    return shlex.join(["kamerton", "train", *_search(asked.config_dir, arguments), *words, f"run_id={run_id}"])


def _search(config_dir: str | None, arguments: Sequence[str]) -> list[str]:
    """The words of a command that say where the user's own configuration files are."""
    folder = [f"--config-dir={config_dir}"] if config_dir else []
    return [*folder, *(text for text in arguments if text.lstrip("+").startswith("hydra.searchpath="))]


def _summary(points: Sequence[Point]) -> None:
    from kamerton.train.points import say_points

    say_points(points)


def deep_faults(values: dict[str, Any]) -> list[Fault]:
    """Faults that only a look at the data, the classes and the model's name can find; loads no weights."""
    from kamerton.train.check import build_faults
    from kamerton.train.opening import elsewhere_faults

    quiet_frameworks()
    elsewhere = elsewhere_faults(values)
    if is_hosted(values):
        from kamerton.providers.plan import plan_faults

        return [*elsewhere, *plan_faults(values)]
    return [*elsewhere, *data_faults(_as_split(values)), *build_faults(values)]


def _as_split(values: dict[str, Any]) -> dict[str, Any]:
    """The values as the data stage reads them: of a cross-validation, those of its first fold."""
    cv, split = section(CvOptions, values, "cv"), section(SplitOptions, values, "split")
    if cv is None or cv.folds is None or split is None:
        return values
    from kamerton.train.cross_validation import crossed

    return {**values, "split": dataclasses.asdict(crossed(split, cv, 0))}


@contextmanager
def _ranks_rerun_this(asked: Asked) -> Iterator[None]:
    """What Lightning starts for the other ranks: this one run, also when it is a job of a sweep.

    Lightning repeats `sys.argv`, and adds options of its own when it sees Hydra at work; so Hydra is hidden from it.
    """
    command = [] if Path(sys.argv[0]).name == "train.py" else ["train"]
    folder = ["--config-dir", asked.config_dir] if asked.config_dir else []
    state: Any = HydraConfig.instance().cfg
    HydraConfig.instance().cfg = None
    with typed([*command, *folder, *asked.overrides, "hydra.mode=RUN"]):  # whatever sweep=… says
        try:
            yield
        finally:
            HydraConfig.instance().cfg = state


def quiet_frameworks() -> None:
    """`kamerton.quiet.quiet_frameworks`, and Lightning as well."""
    quiet.quiet_frameworks()
    import pytorch_lightning  # noqa: F401 (sets its loggers' levels when it is imported)

    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
