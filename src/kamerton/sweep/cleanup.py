"""Delete checkpoints: only the best trials of a sweep keep theirs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kamerton.locks import lock_owner
from kamerton.run.directory import record_at
from kamerton.run.opening import LOCK

if TYPE_CHECKING:
    from optuna import Study


_ENDED = ("complete", "pruned", "diverged", "failed")


def delete_checkpoints(study: Study, folder: Path) -> None:
    """Delete the checkpoints of every trial in `folder` that has ended and is not among the best.

    A trial that was killed or interrupted keeps them: it will be resumed. Other machines delete their own.
    """
    from hydra_plugins.kamerton._results import best_trials
    from hydra_plugins.kamerton._tickets import outcome, superseded
    from hydra_plugins.kamerton.trial import original_number

    trials = study.get_trials(deepcopy=False)
    best = {original_number(trial) for trial in best_trials(study)}
    retried = superseded(trials)
    ended = [trial for trial in trials if outcome(trial) in _ENDED and trial.number not in retried]
    params = {original_number(trial): trial.params for trial in ended}
    for number in params.keys() - best:
        delete_trial_checkpoints(folder / str(number), params[number])


def delete_trial_checkpoints(folder: Path, params: Mapping[str, Any]) -> None:
    """Delete the checkpoints of the runs of a trial with these parameters, in its folder or one level below.

    Runs of another study, and those that a process still works on, are kept.
    """
    for checkpoints in (folder / "checkpoints", *folder.glob("*/checkpoints")):
        run = checkpoints.parent
        trial = record_at(run).trial
        if (trial is None or trial.params in (None, params)) and lock_owner(run / LOCK) is None:
            shutil.rmtree(checkpoints, ignore_errors=True)
