"""The runs of a trial: one, or one for each seed or fold."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kamerton.config.derived import fold_of
from kamerton.config.schema import Config, CvOptions, SweepOptions
from kamerton.config.secrets import redacted
from kamerton.errors import Fault, UserError
from kamerton.files import load_yaml
from kamerton.run.changes import as_begun, describe, differences
from kamerton.run.directory import read_mapping

_QUIET = ("progress_bar", "model_summary")  # a sweep shows its trials itself


@dataclass(frozen=True, slots=True)
class TrialRun:
    """One run of a trial: its configuration, whose `run_id` names its directory in the folder `home`."""

    home: Path
    config: Config

    @property
    def folder(self) -> Path:
        """Its run directory."""
        return self.home / str(self.config.run_id)


def trial_runs(config: Config, trials: Path, number: int) -> list[TrialRun]:
    """Return the runs of trial `number`: `trials/NUMBER`, or one for each seed or fold inside of that.

    A fold is held out for validation; the test split is the same for all.
    """
    alone = dataclasses.replace(config, cv=CvOptions(), sweep=SweepOptions(), run_id=str(number), resume=None)
    home = trials / str(number)
    if seeds := config.sweep.seeds:
        return [TrialRun(home, dataclasses.replace(alone, seed=seed, run_id=str(seed))) for seed in seeds]
    if folds := config.cv.folds:
        splits = [fold_of(config.split, config.cv, fold, held_out="validation") for fold in range(folds)]
        return [
            TrialRun(home, dataclasses.replace(alone, split=split, run_id=str(fold)))
            for fold, split in enumerate(splits)
        ]
    return [TrialRun(trials, alone)]


def refuse_another(run: TrialRun, named: Mapping[str, Any] | None) -> None:
    """Raise `UserError` if the run in the folder of `run` had another configuration: it belongs to another study.

    `named` as in `train`.
    """
    before = read_mapping(run.folder / "config.yaml", load_yaml)
    changes = differences(before, as_begun(before, redacted(dataclasses.asdict(run.config), named or {})))
    if changes:
        message = f"run {run.config.run_id} already exists with another configuration ({'; '.join(describe(changes))})"
        fix = "give another hydra.sweeper.study_name, or move that sweep's folder away"
        raise UserError([Fault("run.changed", message, fix, file=str(run.folder / "config.yaml"))])


def run_overrides(config: Config, run: TrialRun) -> list[str]:
    """Return the overrides of one of a trial's runs, beyond those that all of them share."""
    if config.sweep.seeds:
        return [f"seed={run.config.seed}"]
    if config.cv.folds is None:
        return []
    split = run.config.split
    kept = {"stratify": split.stratify, "group": split.group}
    changed = [f"split.{key}={value}" for key, value in kept.items() if value != getattr(config.split, key)]
    return ["cv.folds=null", f"split.folds={split.folds}", f"split.fold={split.fold}", *changed]


def for_a_trial(config: Config) -> Config:
    """Return the configuration of a trial: without what only the best one, or a terminal, needs."""
    callbacks = {name: None if name in _QUIET else node for name, node in config.callbacks.items()}
    model = dataclasses.replace(config.model, export=None)
    return dataclasses.replace(config, base=False, baselines=False, model=model, callbacks=callbacks)
