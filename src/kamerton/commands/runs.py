"""`kamerton runs`: list, watch, stop, pause and resume the runs of a folder of outputs."""

# Imports that a list does not need are lazy, so that it appears faster than Hydra is imported.

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from kamerton.console import plain_console
from kamerton.errors import UserError
from kamerton.jobs.locate import find_run
from kamerton.jobs.store import LOG, JobStatus, list_jobs, read_status
from kamerton.output import echo, print_faults
from kamerton.shell import command_line

OUTPUTS = "outputs"
OUTPUTS_HELP = "the folder of the runs (outputs)"


def runs_command(arguments: Sequence[str]) -> int:
    """Run `kamerton runs` with these arguments; return the exit code."""
    try:
        options = _parser().parse_args(list(arguments))
        action: Callable[[argparse.Namespace], int] = options.action
        return action(options)
    except UserError as error:
        print_faults(error.faults)
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        echo(f"error: {error.filename}: {error.strerror}", err=True)  # another user's folder, or a full disk
        return 1
    except SystemExit as exit:  # raised by argparse after the help
        return exit.code if isinstance(exit.code, int) else 1
    except KeyboardInterrupt:  # only watching stops; the job continues
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("kamerton runs", description=__doc__)
    parser.add_argument("--outputs", type=Path, default=Path(OUTPUTS), help=OUTPUTS_HELP)
    parser.set_defaults(action=_list)
    outputs = argparse.ArgumentParser(add_help=False)
    outputs.add_argument("--outputs", type=Path, default=argparse.SUPPRESS, help=OUTPUTS_HELP)
    run = argparse.ArgumentParser(add_help=False)
    run.add_argument("run", help="a run's id, EXPERIMENT/ID, or its directory")
    actions = parser.add_subparsers(metavar="ACTION")

    def add(name: str, action: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        parents = [outputs] if name == "list" else [outputs, run]
        subparser = actions.add_parser(name, parents=parents, help=help, description=help)
        subparser.set_defaults(action=action)
        return subparser

    add("list", _list, "list every run, newest first")
    add("show", _show, "show the state and metrics of a run")
    add("watch", _watch, "follow a run on a live screen until it ends")
    for name, state, help in (
        ("stop", "cancelled", "save a checkpoint and cancel the run"),
        ("pause", "paused", "save a checkpoint and pause the run"),
    ):
        add(name, partial(_end, state=state), help).add_argument(
            "--grace", type=float, default=None, metavar="SECONDS", help="kill it if it takes longer"
        )
    resume = add("resume", _resume, "continue a paused, stopped or failed run as a job")
    resume.add_argument(
        "--trust", action="store_true", help="even if its overrides or folder let other people's code run"
    )
    logs = add("logs", _logs, "print the output of a job")
    logs.add_argument("-f", "--follow", action="store_true", help="continue until the job ends")

    def reject(message: str) -> NoReturn:
        from kamerton.config.flags import reject_flag

        reject_flag(message, "runs")

    for subparser in (parser, *actions.choices.values()):
        subparser.error = reject  # type: ignore[method-assign]
    return parser


def _path(options: argparse.Namespace) -> Path:
    return find_run(options.outputs.absolute(), options.run)


def _list(options: argparse.Namespace) -> int:
    from kamerton.jobs.screen import jobs_table

    jobs = list_jobs(options.outputs.absolute())
    if jobs:
        plain_console().print(jobs_table(jobs), soft_wrap=True, end="")
    else:
        echo(f"no runs in {options.outputs}")
    return 0


def _show(options: argparse.Namespace) -> int:
    from kamerton.jobs.screen import job_facts

    plain_console().print(job_facts(read_status(_path(options))))
    return 0


def _watch(options: argparse.Namespace) -> int:
    import asyncio

    from kamerton.jobs.screen import watch

    status = asyncio.run(watch(_path(options)))
    _print_state(status)
    return 0 if status.state in ("succeeded", "paused", "cancelled") else 1


def _end(options: argparse.Namespace, state: str) -> int:
    """Stop or pause a run; return 0 if it is in the requested state afterwards."""
    import asyncio

    from kamerton.jobs.control import GRACE_S
    from kamerton.jobs.job import TrainingJob

    job, grace = TrainingJob(_path(options)), GRACE_S if options.grace is None else options.grace
    status = asyncio.run(job.stop(grace) if state == "cancelled" else job.pause(grace))
    _print_state(status)
    return 0 if status.state == state else 1


def _resume(options: argparse.Namespace) -> int:
    from kamerton.jobs.control import resume

    path = _path(options)
    resume(path, trust=options.trust)
    echo(f"queued; {command_line('runs', 'watch', path)}")
    return 0


def _print_state(status: JobStatus) -> None:
    """Print a line with the state of a run."""
    step = f" at step {status.step:,} of {status.steps:,}" if status.step is not None and status.steps else ""
    reason = f": {status.error['message']}" if status.error else ""
    echo(f"{status.path.parent.name}/{status.id} {status.state}{step}{reason}")


def _logs(options: argparse.Namespace) -> int:
    from kamerton.jobs.control import POLL_S

    path = _path(options)
    if not (path / LOG).exists():
        echo(f"{path.name} was started in a terminal: it is not a job and has no log", err=True)
        return 1
    with (path / LOG).open(encoding="utf-8", errors="replace") as file:
        while True:
            active = options.follow and read_status(path).is_active  # before reading, so that nothing is missed
            echo(file.read(), end="")
            if not active:
                return 0
            time.sleep(POLL_S)
