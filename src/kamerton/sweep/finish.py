"""The end of a sweep of this process: delete checkpoints, score the best trial, write the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from rich.console import Console

from kamerton.config.check import to_config
from kamerton.config.command import Compose
from kamerton.console import plain_console
from kamerton.errors import Fault, RunFailed, UserError
from kamerton.locks import exclusive
from kamerton.output import echo
from kamerton.sweep.cleanup import delete_checkpoints
from kamerton.sweep.final_test import score_winner, winner
from kamerton.sweep.report import again, write_sweep_report
from kamerton.sweep.trial import TRIALS
from kamerton.sweep.trial_runs import run_overrides, trial_runs

if TYPE_CHECKING:
    from hydra_plugins.kamerton._results import Finished


def end_sweep(end: Finished, compose: Compose, console: Console | None = None, search: Sequence[str] = ()) -> None:
    """Score the best trial of a sweep, unless other workers still train or this one gave up; write the sweep's report.

    `compose` returns the values of a job from its overrides, resolved and unresolved. `search` are the options that
    locate the user's configuration files. Raises `RunFailed` after the report if too many trials failed.
    """
    from hydra_plugins.kamerton._storage import answering

    with answering(end.storage):
        _end_sweep(end, compose, console or plain_console(), search)


def _end_sweep(end: Finished, compose: Compose, console: Console, search: Sequence[str]) -> None:
    from hydra_plugins.kamerton._storage import open_storage

    storage = open_storage(end.storage)
    study = optuna.load_study(study_name=end.study_name, storage=storage)
    try:
        delete_checkpoints(study, end.directory / TRIALS)
        if end.running:
            numbers = ", ".join(map(str, end.running))
            text = f"best trial not scored yet: trials {numbers} still run on other workers; the last worker scores it"
            console.print(text, highlight=False, soft_wrap=True)
        try:
            if end.best and not end.running and not end.gave_up:
                _score(end, compose, console, search)
        finally:  # also if the best trial could not be scored
            page, commands = _report(study, end, compose, search)
            for line in [*(f"again  {command}" for command in commands[:1]), f"report {page}"]:
                console.print(line, highlight=False, markup=False, soft_wrap=True)
        hopeless = end.outcomes and not end.running and set(end.outcomes) <= {"failed", "killed", "diverged"}
        if end.gave_up or hopeless:
            raise RunFailed(_failed(study, end, page))
    finally:
        storage.remove_session()


def _report(study: optuna.Study, end: Finished, compose: Compose, search: Sequence[str]) -> tuple[Path, list[str]]:
    """Write the report of the current state of the sweep; return its page and the commands that repeat the best trial.

    Workers that end together write it one after the other, so the last report is the newest.
    """
    from hydra_plugins.kamerton._results import LOCK, later

    unlocked = (
        "the report is written without it, and may be overwritten by an older one; the same command writes it again"
    )
    with exclusive(end.directory / LOCK, lambda message: echo(f"warning: {message}: {unlocked}", err=True)):
        end = later(end, study)
        commands: list[str] = []
        try:
            if end.best:
                best = winner(end)
                config = to_config(compose(best.overrides)[0])
                runs = trial_runs(config, end.directory, best.original)
                commands += [again([*best.overrides, *run_overrides(config, run)], search) for run in runs]
        finally:  # the report is written without them, too
            page = write_sweep_report(study, end, commands)
    return page, commands


def _failed(study: optuna.Study, end: Finished, page: Path) -> Fault:
    """Return the fault of a sweep with too many failed trials, or no completed one, with the last reasons."""
    counts = ", ".join(f"{count} {name}" for name, count in end.outcomes.items())
    reasons = [
        str(trial.user_attrs["error"]) for trial in study.get_trials(deepcopy=False) if "error" in trial.user_attrs
    ]
    last = "".join(f"; {reason}" for reason in dict.fromkeys(reasons[-3:]))
    if end.gave_up:
        message = f"as many trials failed as hydra.sweeper.max_failures allows ({counts}){last}"
        fix = "correct what fails, then run the same command again: it resumes, and scores the best trial at its end"
        return Fault("sweep.failures", message, f"{fix}; until then see {page}", str(end.directory))
    fix = "correct what failed, or narrow the space; with a larger hydra.sweeper.n_trials the same command resumes"
    return Fault("sweep.no-trial", f"no trial of {end.study_name} completed ({counts}){last}", fix, str(end.directory))


def _score(end: Finished, compose: Compose, console: Console, search: Sequence[str]) -> None:
    """Score the best trial, if `sweep.final` is set."""
    best = winner(end)
    values, named = compose(best.overrides)
    config = to_config(values)
    if not config.sweep.final:
        return
    directory = "" if best.original == best.number else f"; its directory is {TRIALS}/{best.original}"
    console.print(f"[bold]trial {best.number}[/bold] is the best one{directory}", highlight=False)
    try:
        score_winner(config, end, best, named, console, search)
    except UserError as error:
        fault = error.faults[0]
        if fault.code == "run.running":
            console.print("another worker of this sweep scores the best trial")
        elif fault.code == "sweep.elsewhere":
            text = f"{fault.message}; {fault.fix}"
            console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            raise
