"""From the command line through Hydra to a job: what every command that takes a configuration shares."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig

from kamerton.config.compose import ROOT, VERSION_BASE, check_overrides, conf_dir, force, plain
from kamerton.errors import Fault, Interrupted, RunFailed, UserError

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What was typed for one job: its overrides (of a sweep, those of this point) and the user's own config folder."""

    overrides: tuple[str, ...]
    config_dir: str | None


def run_command(
    arguments: Sequence[str],
    job: Callable[[Values, Asked], float | None],
    deeper: Callable[[Values], list[Fault]],
) -> int:
    """Check everything that was typed, then let Hydra run `job` once or for each point of a sweep.

    `deeper` finds faults in the composed values beyond their schema. Returns the exit code: 0, 1 failed, 2 faults
    (all printed), 130 stopped by the user.
    """
    parsed = get_args_parser().parse_intermixed_args(list(arguments))
    flags = [argument for argument in arguments if argument not in parsed.overrides]
    only_asks = parsed.help or parsed.hydra_help or parsed.info or parsed.shell_completion or parsed.cfg

    def hydra_job(composed: Any) -> float | None:
        overrides = tuple(text.removeprefix("++") for text in HydraConfig.get().overrides.task)
        try:
            return job(plain(composed), Asked(overrides, parsed.config_dir))
        except (UserError, RunFailed, Interrupted) as error:
            raise _Ended from error

    terminate = signal.signal(signal.SIGTERM, signal.default_int_handler) if _is_main_thread() else None
    try:
        completes = parsed.shell_completion  # what follows is an instruction such as install=bash, no override
        faults = (
            [] if completes else check_overrides(parsed.overrides, parsed.config_dir, None if only_asks else deeper)
        )
        if faults:
            raise UserError(faults)
        with typed([*flags, *(parsed.overrides if completes else force(parsed.overrides))]):
            hydra.main(version_base=VERSION_BASE, config_path=str(conf_dir()), config_name=ROOT)(hydra_job)()
    except UserError as error:
        print_faults(error)
        return 2
    except _Ended as ended:
        return _exit_code(ended.__cause__)
    except KeyboardInterrupt:
        print("\ninterrupted before anything was saved", file=sys.stderr)
        return 130
    except SystemExit as exit:  # Hydra has printed the traceback of a failed job
        return exit.code if isinstance(exit.code, int) else 1
    finally:
        if terminate is not None:
            signal.signal(signal.SIGTERM, terminate)
    return 0


def _is_main_thread() -> bool:
    """Only there may handlers of signals be set."""
    return threading.current_thread() is threading.main_thread()


class _Ended(BaseException):
    """A job ended by the user's mistake or wish; no `Exception`, or Hydra would print it as a failure."""


def _exit_code(reason: BaseException | None) -> int:
    if isinstance(reason, UserError):
        print_faults(reason)
        return 2
    print(f"\n{reason}", file=sys.stderr)
    return 1 if isinstance(reason, RunFailed) else 130


def print_faults(error: UserError) -> None:
    """Every fault with its place and its fix, on standard error."""
    count = len(error.faults)
    print(f"{count} fault{'s' if count != 1 else ''} found, nothing was done:\n", file=sys.stderr)
    for fault in error.faults:
        print(fault, file=sys.stderr)


@contextmanager
def typed(arguments: Sequence[str]) -> Iterator[None]:
    """`sys.argv` as if `arguments` had been typed: Hydra and Lightning read it."""
    before = sys.argv
    sys.argv = [before[0], *arguments]
    try:
        yield
    finally:
        sys.argv = before
