"""What a sweep leaves: `sweep.json`, `trials.csv` and `optimization_results.yaml`, and its end as a value for the
application that ran it (`finished`).
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.kamerton._space import Space, SweepError
from hydra_plugins.kamerton._storage import masked
from hydra_plugins.kamerton._tickets import OUTCOMES, outcome, superseded
from hydra_plugins.kamerton._trial import original_number

LOCK = ".lock"  # in the sweep's directory: of the worker that writes its files


@dataclass(frozen=True, slots=True)
class Best:
    """A best trial: its number, that of its run directory, its values (one per direction), its parameters as Optuna
    has them, and the overrides that run it again, the fixed ones first.
    """

    number: int
    original: int
    values: tuple[float, ...]
    params: Mapping[str, Any]
    overrides: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """A sweep at its end. `best` is the best trial, with several directions the Pareto front; empty where no trial
    completed. `outcomes` counts trials; those that another one went on with are left out. `running` are the trials that
    other workers had in hand when `best` was read: only the worker that sees none knows the best one. `gave_up`: this
    worker ended because as many of its trials failed as `max_failures` allows. `storage` may hold a password. `space`
    is what made its trials.
    """

    study_name: str
    directory: Path
    directions: tuple[str, ...]
    best: tuple[Best, ...]
    outcomes: Mapping[str, int]
    running: tuple[int, ...]
    storage: str = field(repr=False)
    space: Space = field(repr=False)
    gave_up: bool = False


finished: list[Finished] = []
"""The sweeps that ended in this process, the last one last: to be read after `hydra.main` has returned."""


def result(study: Study, space: Space, directory: Path, storage: str, *, gave_up: bool = False) -> Finished:
    """The sweep as it stands in the study, for a worker that `gave_up` or not."""
    trials = study.get_trials(deepcopy=False)  # before the best one: what ends in between is still running here
    gone = superseded(trials)
    outcomes = Counter(str(outcome(trial)) for trial in trials if outcome(trial) and trial.number not in gone)
    return Finished(
        study.study_name,
        directory,
        tuple(one.name.lower() for one in study.directions),
        tuple(_best(trial, space) for trial in best_trials(study)),
        {name: outcomes[name] for name in OUTCOMES if outcomes[name]},
        tuple(trial.number for trial in trials if trial.state == TrialState.RUNNING),
        storage,
        space,
        gave_up,
    )


def later(end: Finished, study: Study) -> Finished:
    """The same sweep as it stands by now: other workers may have ended since."""
    return result(study, end.space, end.directory, end.storage, gave_up=end.gave_up)


def best_trials(study: Study) -> list[FrozenTrial]:
    """The best trial that meets its constraints, with several directions the Pareto front; none if none completed."""
    try:
        return [study.best_trial] if len(study.directions) == 1 else sorted(study.best_trials, key=lambda t: t.number)
    except ValueError:
        return []


def write_files(end: Finished, study: Study, asked: Mapping[str, Any]) -> None:
    """Write the result files into the sweep's directory; `asked` is what the study keeps of how it was asked for."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]
    replace(end.directory / "trials.csv", _table(trials, len(end.directions)))
    replace(end.directory / "sweep.json", json.dumps(_summary(end, asked), indent=2, default=str) + "\n")
    replace(end.directory / "optimization_results.yaml", yaml.safe_dump(_old_summary(end), sort_keys=False))


def params_of_best(directory: Path) -> Mapping[str, Any]:
    """The parameters of the best trial of the earlier sweep in `directory`."""
    try:
        best = json.loads((directory / "sweep.json").read_text(encoding="utf-8"))["best"]
    except (OSError, ValueError, KeyError) as error:
        raise SweepError(f"hydra.sweeper.enqueue: {directory} is no directory of a sweep ({error})") from None
    if not best:
        raise SweepError(f"hydra.sweeper.enqueue: no trial of {directory} has completed")
    return dict(best[0]["params"])


def replace(path: Path, text: str) -> None:
    """Write a file that several workers may write at once: a reader sees one of theirs, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _best(trial: FrozenTrial, space: Space) -> Best:
    overrides = (*space.fixed, *space.overrides(trial.params))
    return Best(trial.number, original_number(trial), tuple(trial.values), dict(trial.params), overrides)


def _summary(end: Finished, asked: Mapping[str, Any]) -> dict[str, Any]:
    best = [
        {
            "number": one.number,
            "directory": one.original,
            "values": one.values,
            "params": dict(one.params),
            "overrides": [masked(text) for text in one.overrides],
        }
        for one in end.best
    ]
    return {
        "study_name": end.study_name,
        "storage": masked(end.storage),
        **asked,
        "outcomes": end.outcomes,
        "best": best,
    }


def _old_summary(end: Finished) -> dict[str, Any]:
    """The keys that hydra-optuna-sweeper writes, which tools read."""
    solutions = [{"params": dict(one.params), "values": list(one.values)} for one in end.best]
    if len(end.directions) > 1:
        return {"name": "optuna", "solutions": solutions}
    best = end.best[0] if end.best else None
    return {
        "name": "optuna",
        "best_params": dict(best.params) if best else None,
        "best_value": best.values[0] if best else None,
    }


def _table(trials: Sequence[FrozenTrial], n_values: int) -> str:
    """One row per trial, also of those that were killed and run again."""
    keys = sorted({key for trial in trials for key in trial.params})
    values = ["value"] if n_values == 1 else [f"value_{index}" for index in range(n_values)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["number", "directory", "outcome", *values, *keys, "started", "seconds", "error"])
    writer.writerows(_row(trial, keys, n_values) for trial in trials)
    return text.getvalue()


def _row(trial: FrozenTrial, keys: Sequence[str], n_values: int) -> list[Any]:
    values = trial.values if trial.state == TrialState.COMPLETE else [None] * n_values
    seconds = trial.duration.total_seconds() if trial.duration else None
    started = trial.datetime_start.isoformat(timespec="seconds") if trial.datetime_start else None
    state = outcome(trial) or "running"
    params = [trial.params.get(key) for key in keys]
    error = trial.user_attrs.get("error")
    return [trial.number, original_number(trial), state, *values, *params, started, seconds, error]
