"""The end of a sweep: the best trial meets the test split, for the first time and once.

No trial has seen the test split. `sweep.final=score` opens the best trial's run again, scores it with its base model
and baselines, and exports it; `retrain` trains the same configuration anew in `final/NUMBER` and scores that. Where a
later trial becomes the best one (`n_trials` was raised), it is scored too, and the report says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from kamerton.config.schema import Config, CvOptions, SweepOptions
from kamerton.errors import Fault, UserError
from kamerton.mask import mask_text
from kamerton.pipeline.run import Part, train
from kamerton.run.directory import read_record
from kamerton.sweep.trial import TRIALS
from kamerton.sweep.trial_runs import Piece, pieces, refuse_another

if TYPE_CHECKING:
    from hydra_plugins.kamerton._results import Best, Finished

FINAL = "final"


def winner(end: Finished) -> Best:
    """The best trial; of a Pareto front the one that is best in the first objective."""
    sign = -1 if end.directions[0] == "maximize" else 1
    return min(end.best, key=lambda one: sign * one.values[0])


def score_winner(
    config: Config,
    end: Finished,
    best: Best,
    named: Mapping[str, Any] | None = None,
    console: Console | None = None,
    search: Sequence[str] = (),
) -> None:
    """Score on the test split what was not scored yet, as `config.sweep.final` says; `config` is the best trial's."""
    for piece, facts in _runs(config, end, best):
        record = read_record(piece.folder) or {}
        if record:
            refuse_another(piece, named)
        if config.sweep.final == "score" and not record:
            raise UserError([_elsewhere(best.number, piece.folder)])
        overrides = [*search, *(mask_text(text.removeprefix("++")) for text in best.overrides)]
        try:
            train(piece.config, overrides, console, named, Part(piece.home, facts, reopens=True))
        except UserError as error:
            if error.faults[0].code != "run.finished":  # scored by an earlier command, or by another worker just now
                raise


def _runs(config: Config, end: Finished, best: Best) -> list[tuple[Piece, dict[str, Any]]]:
    if config.sweep.final == "score":
        return [(piece, {}) for piece in pieces(config, end.directory / TRIALS, best.original)]
    alone = dataclasses.replace(config, cv=CvOptions(), sweep=SweepOptions(), run_id=str(best.original), resume="auto")
    trial = {"study": end.study_name, "number": best.original, "params": dict(best.params)}
    return [(Piece(end.directory / FINAL, alone), {"trial": trial, "final": True})]


def _elsewhere(number: int, folder: Path) -> Fault:
    message = f"trial {number}, the best one, is not on this machine, so it was not scored"
    fix = "give the command where it was trained, or add sweep.final=retrain"
    return Fault("sweep.elsewhere", message, fix, file=str(folder))
