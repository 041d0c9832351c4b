"""The exit code of a command: from the exception that ends it, or from its jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hydra.errors import CompactHydraException

from hydra_plugins.kamerton import _jobs
from kamerton.config.jobs import Stopped, SweepJob
from kamerton.errors import Interrupted, RunFailed, UserError
from kamerton.output import echo, echo_traceback, print_faults


@dataclass(slots=True)
class Exit:
    """The exit code of a command, set at the end of the block of `exit_code`."""

    code: int = 0


@contextmanager
def exit_code(jobs: Sequence[SweepJob]) -> Iterator[Exit]:
    """Turn the exception that ends the block into an exit code, and print it; without one, the jobs give the code."""
    exit = Exit()
    try:
        yield exit
    except SystemExit as error:  # after help, a version, or what Hydra shows
        exit.code = error.code if isinstance(error.code, int) else 1
        return
    except BaseException as error:
        is_reported = isinstance(error, _jobs.JobFailed) or any(job.raised is error and job.is_reported for job in jobs)
        if not is_reported:
            for kinds, code, report in _EXITS:
                if isinstance(error, kinds):
                    report(error)
                    exit.code = code
                    return
            raise
    codes = [job.code for job in jobs]
    exit.code = 1 if 1 in codes else max([0, *codes])


def _report_interruption(error: BaseException) -> None:
    echo(f"\n{error.__cause__ or 'interrupted; the same command begins again'}", err=True)
    for note in getattr(error, "__notes__", ()):
        echo(note, err=True)


_EXITS: tuple[tuple[tuple[type[BaseException], ...], int, Callable[[Any], object]], ...] = (
    ((UserError,), 2, lambda error: print_faults(error.faults)),
    ((RunFailed, CompactHydraException), 1, lambda error: echo(f"\nerror: {error}", err=True)),
    ((Stopped, KeyboardInterrupt, Interrupted), 130, _report_interruption),
    ((Exception,), 1, echo_traceback),
)
