"""The end of a sweep: the best trial meets the test split, for the first time and once.

No trial has seen the test split. `sweep.final=score` opens the best trial's run again, scores it with its base model
and baselines, and exports it; `retrain` trains the same configuration again in `final/NUMBER` and scores that. Where a
later trial becomes the best one (`n_trials` was raised), it is scored too, and the report says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from kamerton.config.schema import Config, CvOptions, SweepOptions
from kamerton.errors import Fault, UserError
from kamerton.mask import mask_text
from kamerton.pipeline.run import train
from kamerton.pipeline.session import Invocation
from kamerton.run.directory import read_record
from kamerton.sweep.trial import TRIALS
from kamerton.sweep.trial_runs import TrialRun, refuse_another, trial_runs

if TYPE_CHECKING:
    from hydra_plugins.kamerton._results import Best, Finished

FINAL = "final"


def winner(end: Finished) -> Best:
    """Return the best trial; of a Pareto front the one that is best in the first objective."""
    sign = -1 if end.directions[0] == "maximize" else 1
    return min(end.best, key=lambda best: sign * best.values[0])


def score_winner(
    config: Config,
    end: Finished,
    best: Best,
    unresolved: Mapping[str, Any] | None = None,
    console: Console | None = None,
    search: Sequence[str] = (),
) -> None:
    """Score the unscored runs of the best trial, according to `config.sweep.final`; `config` is that trial's."""
    for run, facts in _runs(config, end, best):
        is_here = read_record(run.folder) is not None
        if is_here:
            refuse_another(run, unresolved)
        if config.sweep.final == "score" and not is_here:
            message = f"trial {best.number}, the best one, is not on this machine, so it was not scored"
            fix = "give the command where it was trained, or add sweep.final=retrain"
            raise UserError([Fault("sweep.elsewhere", message, fix, file=str(run.folder))])
        overrides = [*search, *(mask_text(text.removeprefix("++")) for text in best.overrides)]
        try:
            train(run.config, Invocation(overrides, console, unresolved), run.home, facts, reopens=True)
        except UserError as error:
            if error.faults[0].code != "run.finished":  # scored by an earlier command, or by another worker just now
                raise


def _runs(config: Config, end: Finished, best: Best) -> list[tuple[TrialRun, dict[str, Any]]]:
    if config.sweep.final == "score":
        return [(run, {}) for run in trial_runs(config, end.directory / TRIALS, best.original)]
    alone = dataclasses.replace(config, cv=CvOptions(), sweep=SweepOptions(), run_id=str(best.original), resume="auto")
    trial = {"study": end.study_name, "number": best.original, "params": dict(best.params)}
    return [(TrialRun(end.directory / FINAL, alone), {"trial": trial, "final": True})]
