"""Disk: of all trials only the best ones keep their checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kamerton.locks import lock_owner
from kamerton.run.directory import read_record
from kamerton.run.opening import LOCK

if TYPE_CHECKING:
    from optuna import Study


_OVER = ("complete", "pruned", "diverged", "failed")


def tidy(study: Study, trials: Path) -> None:
    """Delete the checkpoints of every trial in the folder `trials` that has ended and is not among the best.

    A trial that was killed or interrupted keeps them: it goes on. What other machines hold is theirs to tidy.
    """
    from hydra_plugins.kamerton._results import best_trials
    from hydra_plugins.kamerton._tickets import outcome, superseded
    from hydra_plugins.kamerton.trial import original_number

    found = study.get_trials(deepcopy=False)
    kept, gone = best_trials(study), superseded(found)
    over = [trial for trial in found if outcome(trial) in _OVER and trial.number not in gone]
    best = {original_number(trial) for trial in kept}
    params = {original_number(trial): trial.params for trial in over}
    for number in params.keys() - best:
        drop_checkpoints(trials / str(number), params[number])


def drop_checkpoints(folder: Path, params: Mapping[str, Any]) -> None:
    """Delete the checkpoints of the runs of a trial with these parameters, in its folder or one level below.

    Runs of another study, and those that a process still works on, are left alone.
    """
    for checkpoints in (folder / "checkpoints", *folder.glob("*/checkpoints")):
        run = checkpoints.parent
        trial = (read_record(run) or {}).get("trial") or {}
        if trial.get("params", params) == params and lock_owner(run / LOCK) is None:
            shutil.rmtree(checkpoints, ignore_errors=True)
