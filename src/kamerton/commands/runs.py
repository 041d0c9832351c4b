"""`kamerton runs`: the jobs of a folder of outputs, listed, watched, stopped, paused and resumed.

What a list does not need is imported where it is used: it is there in less time than Hydra takes to import.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from kamerton.console import plain_console
from kamerton.errors import UserError
from kamerton.jobs.store import LOG, JobStatus, find_run, list_jobs, read_status
from kamerton.output import echo, print_faults
from kamerton.shell import command_line

OUTPUTS = "outputs"
WHERE = "the folder of the runs (outputs)"


def runs_command(arguments: Sequence[str]) -> int:
    """Everything between the command line and the jobs; returns the exit code."""
    try:
        asked = _parser().parse_args(list(arguments))
        action: Callable[[argparse.Namespace], int] = asked.action
        return action(asked)
    except UserError as error:
        print_faults(error.faults)
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        echo(f"error: {error.filename}: {error.strerror}", err=True)  # another user's folder, or a full disk
        return 1
    except SystemExit as exit:  # after help
        return exit.code if isinstance(exit.code, int) else 1
    except KeyboardInterrupt:  # watching ends; the job goes on
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("kamerton runs", description=__doc__)
    parser.add_argument("--outputs", type=Path, default=Path(OUTPUTS), help=WHERE)
    parser.set_defaults(action=_list)
    places = argparse.ArgumentParser(add_help=False)
    places.add_argument("--outputs", type=Path, default=argparse.SUPPRESS, help=WHERE)
    one = argparse.ArgumentParser(add_help=False)
    one.add_argument("run", help="a run's id, EXPERIMENT/ID, or its directory")
    actions = parser.add_subparsers(metavar="ACTION")

    def add(name: str, action: Callable[[argparse.Namespace], int], help: str, *, of_one: bool = True) -> _Parser:
        found = actions.add_parser(name, parents=[places, *([one] if of_one else [])], help=help, description=help)
        found.set_defaults(action=action)
        return found

    add("list", _list, "every run, the newest first", of_one=False)
    add("show", _show, "what is known of a run")
    add("watch", _watch, "follow a run on a live screen, until it ends")
    for name, action, help in (
        ("stop", _stop, "save a checkpoint, then cancel the run"),
        ("pause", _pause, "save a checkpoint, then let the run rest"),
    ):
        add(name, action, help).add_argument(
            "--grace", type=float, default=None, metavar="SECONDS", help="kill it where it takes longer"
        )
    resume = add("resume", _resume, "go on with a run that was paused, stopped or failed, as a job")
    resume.add_argument("--trust", action="store_true", help="also where its overrides or folder let others' code run")
    logs = add("logs", _logs, "what a job printed")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the job ends")
    for each in (parser, *actions.choices.values()):
        each.error = _reject  # type: ignore[method-assign]
    return parser


_Parser = argparse.ArgumentParser


def _reject(message: str) -> NoReturn:
    from kamerton.config.flags import reject_flag

    reject_flag(message, "runs")


def _path(asked: argparse.Namespace) -> Path:
    return find_run(asked.outputs.absolute(), asked.run)


def _list(asked: argparse.Namespace) -> int:
    from kamerton.jobs.screen import jobs_table

    jobs = list_jobs(asked.outputs.absolute())
    if jobs:
        plain_console().print(jobs_table(jobs), soft_wrap=True, end="")
    else:
        echo(f"no runs in {asked.outputs}")
    return 0


def _show(asked: argparse.Namespace) -> int:
    from kamerton.jobs.screen import job_facts

    plain_console().print(job_facts(read_status(_path(asked))))
    return 0


def _watch(asked: argparse.Namespace) -> int:
    import asyncio

    from kamerton.jobs.screen import watch

    return 0 if _say(asyncio.run(watch(_path(asked)))).state in ("succeeded", "paused", "cancelled") else 1


def _stop(asked: argparse.Namespace) -> int:
    return _end(asked, "cancelled")


def _pause(asked: argparse.Namespace) -> int:
    return _end(asked, "paused")


def _end(asked: argparse.Namespace, state: str) -> int:
    """0 if the run is in the state that was asked for now."""
    import asyncio

    from kamerton.jobs.control import GRACE_S
    from kamerton.jobs.job import TrainingJob

    job, grace = TrainingJob(_path(asked)), GRACE_S if asked.grace is None else asked.grace
    found = asyncio.run(job.stop(grace) if state == "cancelled" else job.pause(grace))
    return 0 if _say(found).state == state else 1


def _resume(asked: argparse.Namespace) -> int:
    from kamerton.jobs.control import resume

    path = _path(asked)
    resume(path, trust=asked.trust)
    echo(f"queued; {command_line('runs', 'watch', path)}")
    return 0


def _say(status: JobStatus) -> JobStatus:
    """One line about where a run stands."""
    step = f" at step {status.step:,} of {status.steps:,}" if status.step is not None and status.steps else ""
    reason = f": {status.error['message']}" if status.error else ""
    echo(f"{status.path.parent.name}/{status.id} {status.state}{step}{reason}")
    return status


def _logs(asked: argparse.Namespace) -> int:
    import asyncio

    path = _path(asked)
    if not (path / LOG).exists():
        echo(f"{path.name} printed to a terminal: it is no job", err=True)
        return 1
    asyncio.run(_print_log(path, follow=asked.follow))
    return 0


async def _print_log(path: Path, *, follow: bool) -> None:
    import asyncio

    from kamerton.jobs.control import POLL_S

    with (path / LOG).open(encoding="utf-8", errors="replace") as file:
        while True:
            active = follow and read_status(path).is_active  # before reading: nothing is missed
            echo(file.read(), end="")
            if not active:
                return
            await asyncio.sleep(POLL_S)
