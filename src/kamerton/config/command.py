"""From the command line through Hydra to a job: what every command that takes a configuration shares."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from hydra_plugins.kamerton import _jobs
from hydra_plugins.kamerton._overrides import SweepFailed
from kamerton.config.compose import VERSION_BASE, compose_config, conf_dir, force, plain, searching, unused_groups
from kamerton.config.faults import TRAIN, Deeper, Root, find_faults, job_faults
from kamerton.config.origin import key_of
from kamerton.config.search import search_words, split_search
from kamerton.config.secrets import named
from kamerton.config.sweep import begins_sweep
from kamerton.errors import Cancelled, Fault, Interrupted, RunFailed, UserError
from kamerton.output import echo, echo_traceback
from kamerton.shell import command_line, train_line

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What was typed for one job: its overrides (of a sweep, those of this point), and the words that say where the
    user's own configuration files are (`config.search`).

    `named` are the job's values with `${oc.env:NAME}` in place of what the environment holds.
    """

    overrides: tuple[str, ...]
    search: tuple[str, ...] = ()
    named: Values = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """How a job ended well: what a sweep compares it by, the metrics to show, and where its result is."""

    value: float | list[float] | None
    metrics: dict[str, float]
    path: Path


@dataclass(slots=True)
class Point:
    """One job of a command: what was typed for it, then how it ended. `code` is its exit code; `raised`, which has been
    said, is what a sweeper may pass on.
    """

    overrides: tuple[str, ...]
    done: Done | None = None
    error: str | None = None
    code: int = 0
    raised: Exception | None = None


Job = Callable[[Values, Asked], Done | None]
Compose = Callable[[Sequence[str]], tuple[Values, Values]]
Finish = Callable[[Any, Compose, tuple[str, ...]], None]


def run_command(
    arguments: Sequence[str],
    job: Job,
    deeper: Deeper,
    summary: Callable[[Sequence[Point]], None] | None = None,
    root: Root = TRAIN,
    finish: Finish | None = None,
) -> int:
    """Check everything that was typed, then let Hydra run `job` once or for each point of a sweep.

    `root` is what the command composes. `deeper` finds faults in the composed values beyond their schema; `summary` is
    shown the points of a plain sweep when it ends; a failing one does not end it. `finish` is called when the sweep of
    a study has ended. Returns the exit code: 0, 1 failed, 2 faults (all printed), 130 stopped by the user.
    """
    points: list[Point] = []
    flags = None
    known = len(_studies())
    terminate = signal.signal(signal.SIGTERM, signal.default_int_handler) if _is_main_thread() else None
    try:
        flags = _flags(arguments, root.name)
        asks = flags.help or flags.hydra_help or flags.info or flags.shell_completion or flags.cfg
        overrides = flags.overrides  # after --shell-completion: an instruction such as install=bash, no override
        if not flags.shell_completion:
            look = None if asks else deeper
            faults = find_faults(overrides, flags.config_dir, look, sweeps=flags.multirun, root=root)
            if say_faults(fault for fault in faults if not (asks and fault.code == "config.missing")):
                return 2
            overrides = force(overrides, flags.config_dir)
        search = tuple(search_words(flags.config_dir, flags.overrides))
        try:
            with _only_groups_of(root.name) if flags.help else nullcontext():
                _run_hydra([*_given(flags), *overrides], job, search, points, root.name, flags.overrides)
        except SweepFailed:
            if finish is None:  # otherwise it says so, after its report
                raise
        if ended := _studies()[known:]:
            points.clear()  # how a study's trials ended, its sweeper has said
            if finish is not None:
                finish(ended[-1], lambda words: _composed(words, flags, root.name), search)
    except UserError as error:
        say_faults(error.faults)
        return 2
    except (RunFailed, CompactHydraException) as error:  # after a sweep; the sweeper's own words
        echo(f"\nerror: {error}", err=True)
        return 1
    except (_Stopped, KeyboardInterrupt, Interrupted) as stopped:
        echo(f"\n{stopped.__cause__ or 'interrupted before anything was saved'}", err=True)
        if flags is not None and root is TRAIN and (line := _whole(flags)):
            echo(f"all of it goes on, and what is finished stays, with:\n  {line}", err=True)
        return 130
    except SystemExit as exit:  # after help, a version, or what Hydra shows
        return exit.code if isinstance(exit.code, int) else 1
    except Exception as error:
        passed_on = isinstance(error, _jobs.JobFailed) or any(point.raised is error for point in points)
        if not passed_on:
            echo_traceback(error)
            return 1
    finally:
        if terminate is not None:
            signal.signal(signal.SIGTERM, terminate)
        if summary and len(points) > 1 and len(_studies()) == known:  # of a study, its sweeper has said it
            summary(points)
    return 1 if any(point.code == 1 for point in points) else max([0, *(point.code for point in points)])


@contextmanager
def _only_groups_of(root: str) -> Iterator[None]:
    """Hydra's help lists every group in `conf/`: leave out those of other commands."""
    text = io.StringIO()
    try:
        with redirect_stdout(text):
            yield
    finally:
        unused = unused_groups(root)
        print("\n".join(line for line in text.getvalue().splitlines() if line.partition(":")[0] not in unused))


def _whole(flags: argparse.Namespace) -> str:
    """The command that goes on with all of a grid or a sweep; empty for a single run."""
    search, others = split_search(flags.overrides)
    parsed = OverridesParser.create().parse_overrides(others)
    single = [text for text, one in zip(others, parsed, strict=True) if not one.is_sweep_override()]
    words = force([*search, *single], flags.config_dir)
    config = compose_config(searching(flags.config_dir, words), with_hydra=True)
    found = search_words(flags.config_dir, search) + ["-m"] * flags.multirun
    if begins_sweep(config.hydra):  # its name follows from the words: they stay as they are
        return command_line("train", *found, *others)
    if not (flags.multirun or getattr(config.hydra.mode, "name", "") == "MULTIRUN"):
        return ""
    kept = [text for text in others if key_of(text) != "resume"]
    return train_line(found, kept, config.paths.outputs, "resume=auto")


def _studies() -> list[Any]:
    """The sweeps of studies that have ended in this process (`hydra_plugins.kamerton._results.Finished`)."""
    module = sys.modules.get("hydra_plugins.kamerton._results")
    return list(module.finished) if module else []


def _composed(overrides: Sequence[str], flags: argparse.Namespace, root: str) -> tuple[Values, Values]:
    """The values of a job with these overrides, and what names the environment (as in `Asked`)."""
    search, _ = split_search(flags.overrides)
    config = compose_config(searching(flags.config_dir, [*search, *overrides]), root)
    return plain(config), named(config)


def _is_main_thread() -> bool:
    """Only there may handlers of signals be set."""
    return threading.current_thread() is threading.main_thread()


class _Stopped(BaseException):
    """The user asked to stop; no `Exception`, or a sweep would go on with its next point."""


def _hydra_job(
    job: Job, search: tuple[str, ...], points: list[Point], given: Sequence[str]
) -> Callable[[Any], float | list[float] | None]:
    def run(config: Any) -> float | list[float] | None:
        task = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)  # as typed: ${oc.env:NAME} stays
        assert isinstance(task, list)
        overrides = tuple(str(text).removeprefix("++") for text in task)
        point = Point(overrides)
        points.append(point)
        try:
            values, by_name = plain(config), named(config)
            several = HydraConfig.get().mode is RunMode.MULTIRUN
            if several and (faults := job_faults(values, by_name, given, search)):
                raise UserError(faults)
            point.done = job(values, Asked(overrides, search, by_name))
        except Interrupted as error:
            point.error, point.code = "interrupted", 130
            raise _Stopped from error
        except Exception as error:
            point.raised = error
            point.error, point.code = _why(error)
            if not begins_sweep(HydraConfig.get()) or not isinstance(error, UserError | RunFailed):
                _say(error)  # of a trial, the sweeper says how it ended
            _fail_other_sweepers(error)
            return None
        finally:
            _jobs.facts.update(_as_facts(point))
        return point.done.value if point.done else None

    return run


def _why(error: Exception) -> tuple[str, int]:
    """Why a job failed, in one sentence, and its exit code."""
    if isinstance(error, UserError):
        return error.faults[0].message, 2
    return (error.fault.message if isinstance(error, RunFailed) else f"{type(error).__name__}: {error}"), 1


def _say(error: Exception) -> None:
    """Everything that a person must know of it; a run that was pruned is no error."""
    if isinstance(error, UserError):
        say_faults(error.faults)
    elif isinstance(error, RunFailed):
        echo(f"\n{error}", err=True)
    elif not isinstance(error.__cause__, Cancelled):
        echo_traceback(error)


def _fail_other_sweepers(error: Exception) -> None:
    """Hydra's own sweeper goes on with the next point; any other, and any launcher, must learn that this one failed."""
    if _jobs.launched or not HydraConfig.get().sweeper["_target_"].endswith(".BasicSweeper"):
        raise error


def _as_facts(point: Point) -> Values:
    """A point for the process that started this one."""
    done = {"metrics": point.done.metrics, "path": str(point.done.path)} if point.done else None
    return {"done": done, "error": point.error}


def _as_point(job: _jobs.Job) -> Point:
    """The point that a process made; says how it ended where it could not say so itself."""
    overrides = tuple(text.removeprefix("++") for text in job.overrides)
    if job.error is None:
        done = job.facts["done"]
        return Point(overrides, Done(job.value, done["metrics"], Path(done["path"])) if done else None)
    if not job.facts:
        echo(f"\n{job.error}", err=True)
    error = str(job.facts.get("error") or job.error).splitlines()[0]
    return Point(overrides, None, error, job.code if job.code in (2, 130) else 1)


def _flags(arguments: Sequence[str], command: str) -> argparse.Namespace:
    """Hydra's flags and the overrides; raises `UserError` for flags that cannot be used."""
    parser = get_args_parser()
    refused = partial(refuse, command=command)
    parser.error = refused  # type: ignore[method-assign]
    flags = parser.parse_intermixed_args(list(arguments))
    for name in ("config_path", "config_name", "experimental_rerun"):
        if getattr(flags, name) is not None:
            refused(f"--{name.replace('_', '-')} is not supported: --config-dir DIR adds your own groups and files")
    modes = ("run", "multirun", "shell_completion", "cfg", "info")
    given = [f"--{mode.replace('_', '-')}" for mode in modes if getattr(flags, mode)]
    if len(given) > 1 and not flags.help:
        refused(f"{given[0]} and {given[1]} exclude each other")
    if flags.resolve and not (flags.cfg or flags.help):
        refused("--resolve needs --cfg job")
    return flags


def refuse(message: str, command: str = "train") -> NoReturn:
    """Raise a flag that cannot be used, as argparse says it, as a `UserError`."""
    raise UserError([Fault("config.flag", message, f"see kamerton {command} --help", file="command line")])


def _given(flags: argparse.Namespace) -> list[str]:
    """The flags as Hydra reads them."""
    switches = ("help", "hydra_help", "run", "multirun", "shell_completion", "resolve")
    valued = ("cfg", "info", "package", "config_dir")
    return [
        *(f"--{name.replace('_', '-')}" for name in switches if getattr(flags, name)),
        *(f"--{name.replace('_', '-')}={getattr(flags, name)}" for name in valued if getattr(flags, name) is not None),
    ]


def _run_hydra(
    arguments: Sequence[str],
    job: Job,
    search: tuple[str, ...],
    points: list[Point],
    root: str,
    given: Sequence[str],
) -> None:
    """Hydra as if `arguments` had been typed, the overrides `given` among them. What it refuses before any job is
    raised as a `UserError`.
    """
    run = _hydra_job(job, search, points, given)
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        with typed(arguments):
            hydra.main(version_base=VERSION_BASE, config_path=str(conf_dir()), config_name=root)(run)()
    except SweepFailed:
        raise
    except Exception as error:
        if points or _jobs.finished:
            raise
        message, _, fix = str(error).partition("\n  fix: ")
        if fix:  # a sweeper's own words
            raise UserError([Fault("config.sweep", message, fix)]) from error
        message = f"{type(error).__name__}: {error}"
        raise UserError([Fault("config.hydra", message, "see kamerton train --hydra-help")]) from error
    finally:
        points += map(_as_point, _jobs.finished)
        _jobs.finished.clear()
        os.environ.pop("HYDRA_FULL_ERROR")
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before


def say_faults(faults: Iterable[Fault]) -> int:
    """Print faults on standard error as they come, each with its place and its fix, then how many of which kind.

    Faults that are all there already are printed errors first. Returns the number of errors.
    """
    count = {"error": 0, "warning": 0}
    if isinstance(faults, Sequence):
        faults = sorted(faults, key=lambda fault: fault.severity)
    for fault in faults:
        count[fault.severity] += 1
        echo(f"{fault.severity}: {fault}", err=True)
    words = [f"{number} {kind}{'s' if number != 1 else ''}" for kind, number in count.items() if number]
    if words:
        echo(f"\n{', '.join(words)}{'; nothing was done' if count['error'] else ''}", err=True)
    return count["error"]


@contextmanager
def typed(arguments: Sequence[str]) -> Iterator[None]:
    """`sys.argv` as if `arguments` had been typed: Hydra and Lightning read it."""
    before = sys.argv
    sys.argv = [before[0], *arguments]
    try:
        yield
    finally:
        sys.argv = before
