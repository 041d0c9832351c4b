"""From the command line through Hydra to a job: what every command that takes a configuration shares."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from kamerton.config.compose import ROOT, VERSION_BASE, conf_dir, force, plain
from kamerton.config.faults import Deeper, find_faults
from kamerton.config.secrets import named
from kamerton.errors import Fault, Interrupted, RunFailed, UserError

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What was typed for one job: its overrides (of a sweep, those of this point) and the user's own config folder.

    `named` are the job's values with `${oc.env:NAME}` in place of what the environment holds.
    """

    overrides: tuple[str, ...]
    config_dir: str | None
    named: Values = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """How a job ended well: what a sweep minimises, the metrics to show, and where its result is."""

    value: float | None
    metrics: dict[str, float]
    path: Path


@dataclass(slots=True)
class Point:
    """One job of a command: what was typed for it, then how it ended. `code` is its exit code."""

    overrides: tuple[str, ...]
    done: Done | None = None
    error: str | None = None
    code: int = 0


Job = Callable[[Values, Asked], Done | None]


def run_command(
    arguments: Sequence[str], job: Job, deeper: Deeper, summary: Callable[[Sequence[Point]], None] | None = None
) -> int:
    """Check everything that was typed, then let Hydra run `job` once or for each point of a sweep.

    `deeper` finds faults in the composed values beyond their schema; `summary` is shown the points of a sweep when it
    ends. A failing point of a plain sweep does not end it. Returns the exit code: 0, 1 failed, 2 faults (all
    printed), 130 stopped by the user.
    """
    points: list[Point] = []
    terminate = signal.signal(signal.SIGTERM, signal.default_int_handler) if _is_main_thread() else None
    try:
        flags = _flags(arguments)
        asks = flags.help or flags.hydra_help or flags.info or flags.shell_completion or flags.cfg
        overrides = flags.overrides  # after --shell-completion: an instruction such as install=bash, no override
        if not flags.shell_completion:
            sweeps = flags.multirun or any(text == "hydra.mode=MULTIRUN" for text in overrides)
            if say_faults(find_faults(overrides, flags.config_dir, None if asks else deeper, sweeps=sweeps)):
                return 2
            overrides = force(overrides, flags.config_dir)
        _run_hydra([*_given(flags), *overrides], job, flags.config_dir, points)
    except UserError as error:
        say_faults(error.faults)
        return 2
    except (_Stopped, KeyboardInterrupt) as stopped:
        print(f"\n{stopped.__cause__ or 'interrupted before anything was saved'}", file=sys.stderr)
        return 130
    except SystemExit as exit:  # after help, a version, or what Hydra shows
        return exit.code if isinstance(exit.code, int) else 1
    except Exception:
        if not any(point.code for point in points):  # otherwise a sweeper passes on what has been said
            traceback.print_exc()
            return 1
    finally:
        if terminate is not None:
            signal.signal(signal.SIGTERM, terminate)
        if summary and len(points) > 1:
            summary(points)
    return 1 if any(point.code == 1 for point in points) else max([0, *(point.code for point in points)])


def _is_main_thread() -> bool:
    """Only there may handlers of signals be set."""
    return threading.current_thread() is threading.main_thread()


class _Stopped(BaseException):
    """The user asked to stop; no `Exception`, or a sweep would go on with its next point."""


def _hydra_job(job: Job, config_dir: str | None, points: list[Point]) -> Callable[[Any], float | None]:
    def run(composed: Any) -> float | None:
        task = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)  # as typed: ${oc.env:NAME} stays
        assert isinstance(task, list)
        overrides = tuple(str(text).removeprefix("++") for text in task)
        point = Point(overrides)
        points.append(point)
        try:
            point.done = job(plain(composed), Asked(overrides, config_dir, named(composed)))
        except Interrupted as error:
            point.error, point.code = "interrupted", 130
            raise _Stopped from error
        except UserError as error:
            say_faults(error.faults)
            point.error, point.code = error.faults[0].message, 2
            _fail_other_sweepers(error)
            return None
        except RunFailed as error:
            print(f"\n{error}", file=sys.stderr)
            point.error, point.code = error.fault.message, 1
            _fail_other_sweepers(error)
            return None
        except Exception as error:
            traceback.print_exc()
            point.error, point.code = f"{type(error).__name__}: {error}", 1
            _fail_other_sweepers(error)
            return None
        return point.done.value if point.done else None

    return run


def _fail_other_sweepers(error: Exception) -> None:
    """Hydra's own sweeper goes on with the next point; any other must learn that this one failed."""
    if not HydraConfig.get().sweeper["_target_"].endswith(".BasicSweeper"):
        raise error


def _flags(arguments: Sequence[str]) -> argparse.Namespace:
    """Hydra's flags and the overrides; raises `UserError` for flags that cannot be used."""
    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    flags = parser.parse_intermixed_args(list(arguments))
    for name in ("config_path", "config_name", "experimental_rerun"):
        if getattr(flags, name) is not None:
            refuse(f"--{name.replace('_', '-')} is not supported: --config-dir DIR adds your own groups and files")
    modes = ("run", "multirun", "shell_completion", "cfg", "info")
    given = [f"--{mode.replace('_', '-')}" for mode in modes if getattr(flags, mode)]
    if len(given) > 1 and not flags.help:
        refuse(f"{given[0]} and {given[1]} exclude each other")
    if flags.resolve and not (flags.cfg or flags.help):
        refuse("--resolve needs --cfg job")
    return flags


def refuse(message: str) -> NoReturn:
    """Raise a flag that cannot be used, as argparse says it, as a `UserError`."""
    raise UserError([Fault("config.flag", message, "see kamerton train --help", file="command line")])


def _given(flags: argparse.Namespace) -> list[str]:
    """The flags as Hydra reads them."""
    switches = ("help", "hydra_help", "run", "multirun", "shell_completion", "resolve")
    valued = ("cfg", "info", "package", "config_dir")
    return [
        *(f"--{name.replace('_', '-')}" for name in switches if getattr(flags, name)),
        *(f"--{name.replace('_', '-')}={getattr(flags, name)}" for name in valued if getattr(flags, name) is not None),
    ]


def _run_hydra(arguments: Sequence[str], job: Job, config_dir: str | None, points: list[Point]) -> None:
    """Hydra as if `arguments` had been typed. What it refuses before any job is raised as a `UserError`."""
    run = _hydra_job(job, config_dir, points)
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        with typed(arguments):
            hydra.main(version_base=VERSION_BASE, config_path=str(conf_dir()), config_name=ROOT)(run)()
    except Exception as error:
        if points:
            raise
        message = f"{type(error).__name__}: {error}"
        raise UserError([Fault("config.hydra", message, "see kamerton train --hydra-help")]) from error
    finally:
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
        print(f"{fault.severity}: {fault}", file=sys.stderr, flush=True)
    words = [f"{number} {kind}{'s' if number != 1 else ''}" for kind, number in count.items() if number]
    if words:
        print(f"\n{', '.join(words)}{'; nothing was done' if count['error'] else ''}", file=sys.stderr)
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
