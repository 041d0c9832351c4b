"""The runs that a trial consists of: one, or one for each seed or fold."""

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
class Piece:
    """One run of a trial: the folder it is made in, and its configuration, whose `run_id` names it there."""

    home: Path
    config: Config

    @property
    def folder(self) -> Path:
        """Its run directory."""
        return self.home / str(self.config.run_id)


def pieces(config: Config, trials: Path, number: int) -> list[Piece]:
    """The runs of trial `number`: `trials/NUMBER`, or one for each seed or fold inside of that.

    A fold is held out for validation; the test split is the same for all.
    """
    alone = dataclasses.replace(config, cv=CvOptions(), sweep=SweepOptions(), run_id=str(number), resume=None)
    home = trials / str(number)
    if seeds := config.sweep.seeds:
        return [Piece(home, dataclasses.replace(alone, seed=seed, run_id=str(seed))) for seed in seeds]
    if folds := config.cv.folds:
        splits = [fold_of(config.split, config.cv, fold, held_out="validation") for fold in range(folds)]
        return [
            Piece(home, dataclasses.replace(alone, split=split, run_id=str(fold))) for fold, split in enumerate(splits)
        ]
    return [Piece(trials, alone)]


def refuse_another(piece: Piece, named: Mapping[str, Any] | None) -> None:
    """Raise `UserError` where the run in the folder of `piece` had another configuration: it is no part of this study.

    `named` as in `train`.
    """
    before = read_mapping(piece.folder / "config.yaml", load_yaml)
    changes = differences(before, as_begun(before, redacted(dataclasses.asdict(piece.config), named or {})))
    if changes:
        message = (
            f"run {piece.config.run_id} is there already, of another configuration ({'; '.join(describe(changes))})"
        )
        fix = "give another hydra.sweeper.study_name, or move that sweep's folder away"
        raise UserError([Fault("run.changed", message, fix, file=str(piece.folder / "config.yaml"))])


def own_words(config: Config, piece: Piece) -> list[str]:
    """The overrides that make one of a trial's runs of what they all share."""
    if config.sweep.seeds:
        return [f"seed={piece.config.seed}"]
    if config.cv.folds is None:
        return []
    split = piece.config.split
    kept = {"stratify": split.stratify, "group": split.group}
    changed = [f"split.{key}={value}" for key, value in kept.items() if value != getattr(config.split, key)]
    return ["cv.folds=null", f"split.folds={split.folds}", f"split.fold={split.fold}", *changed]


def for_a_trial(config: Config) -> Config:
    """The configuration as a trial runs it: what is for the best one alone, or for a terminal, is left out."""
    callbacks = {name: None if name in _QUIET else node for name, node in config.callbacks.items()}
    model = dataclasses.replace(config.model, export=None)
    return dataclasses.replace(config, base=False, baselines=False, model=model, callbacks=callbacks)
