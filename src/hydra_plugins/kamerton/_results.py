"""The results of a sweep: `sweep.json`, `trials.csv`, `optimization_results.yaml`, and a value for the application that
ran it (`finished`).
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

LOCK = ".lock"  # in the sweep's directory, held by the worker that writes its files


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
    """A sweep at its end. `best` is the best trial, with several directions the Pareto front; empty if no trial
    completed. `outcomes` counts trials, without those that were retried. `running` are the trials that other workers
    still ran when `best` was read: only a worker that sees none knows the best one. `gave_up`: this worker stopped
    because `max_failures` of its trials failed. `storage` may hold a password.
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
"""The sweeps that ended in this process, in order; an application reads it after `hydra.main` has returned."""


def result(study: Study, space: Space, directory: Path, storage: str, *, gave_up: bool = False) -> Finished:
    """Return the sweep's state in the study, for a worker that `gave_up` or not."""
    trials = study.get_trials(deepcopy=False)  # before the best one: what ends in between is still running here
    retried = superseded(trials)
    outcomes = Counter(str(outcome(trial)) for trial in trials if outcome(trial) and trial.number not in retried)
    best = tuple(
        Best(
            trial.number,
            original_number(trial),
            tuple(trial.values),
            dict(trial.params),
            (*space.fixed, *space.overrides(trial.params)),
        )
        for trial in best_trials(study)
    )
    return Finished(
        study.study_name,
        directory,
        tuple(direction.name.lower() for direction in study.directions),
        best,
        {name: outcomes[name] for name in OUTCOMES if outcomes[name]},
        tuple(trial.number for trial in trials if trial.state == TrialState.RUNNING),
        storage,
        space,
        gave_up,
    )


def later(end: Finished, study: Study) -> Finished:
    """Return the same sweep in its present state: other workers may have ended since."""
    return result(study, end.space, end.directory, end.storage, gave_up=end.gave_up)


def best_trials(study: Study) -> list[FrozenTrial]:
    """Return the best trial within its constraints, or the Pareto front of several directions; empty if none."""
    try:
        return [study.best_trial] if len(study.directions) == 1 else sorted(study.best_trials, key=lambda t: t.number)
    except ValueError:
        return []


def write_files(end: Finished, study: Study, definition: Mapping[str, Any]) -> None:
    """Write the result files into the sweep's directory; `definition` is that of the study, as it is stored."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]
    replace(end.directory / "trials.csv", _table(trials, len(end.directions)))
    bests = [
        {
            "number": trial.number,
            "directory": trial.original,
            "values": trial.values,
            "params": dict(trial.params),
            "overrides": [masked(text) for text in trial.overrides],
        }
        for trial in end.best
    ]
    summary = {
        "study_name": end.study_name,
        "storage": masked(end.storage),
        **definition,
        "outcomes": end.outcomes,
        "best": bests,
    }
    replace(end.directory / "sweep.json", json.dumps(summary, indent=2, default=str) + "\n")
    old: dict[str, Any] = {"name": "optuna"}  # the keys that hydra-optuna-sweeper writes, which tools read
    if len(end.directions) > 1:
        old["solutions"] = [{"params": dict(trial.params), "values": list(trial.values)} for trial in end.best]
    else:
        best = end.best[0] if end.best else None
        old["best_params"] = dict(best.params) if best else None
        old["best_value"] = best.values[0] if best else None
    replace(end.directory / "optimization_results.yaml", yaml.safe_dump(old, sort_keys=False))


def params_of_best(directory: Path) -> Mapping[str, Any]:
    """Return the parameters of the best trial of the earlier sweep in `directory`."""
    try:
        best = json.loads((directory / "sweep.json").read_text(encoding="utf-8"))["best"]
    except (OSError, ValueError, KeyError) as error:
        raise SweepError(f"hydra.sweeper.enqueue: {directory} is not the directory of a sweep ({error})") from None
    if not best:
        raise SweepError(f"hydra.sweeper.enqueue: no trial of {directory} has completed")
    return dict(best[0]["params"])


def replace(path: Path, text: str) -> None:
    """Write a file atomically: several workers may write it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _table(trials: Sequence[FrozenTrial], n_values: int) -> str:
    """Return a CSV row for each trial, including those that were killed and retried."""
    keys = sorted({key for trial in trials for key in trial.params})
    values = ["value"] if n_values == 1 else [f"value_{index}" for index in range(n_values)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["number", "directory", "outcome", *values, *keys, "started", "seconds", "error"])
    for trial in trials:
        results = trial.values if trial.state == TrialState.COMPLETE else [None] * n_values
        seconds = trial.duration.total_seconds() if trial.duration else None
        started = trial.datetime_start.isoformat(timespec="seconds") if trial.datetime_start else None
        state = outcome(trial) or "running"
        params = [trial.params.get(key) for key in keys]
        error = trial.user_attrs.get("error")
        writer.writerow([trial.number, original_number(trial), state, *results, *params, started, seconds, error])
    return text.getvalue()


def failure_reasons(study: Study, end: Finished) -> str:
    """Return why a sweep failed: all trials did, and none runs on another worker. Empty for any other sweep."""
    if not end.outcomes or end.running or set(end.outcomes) - {"failed", "killed"}:
        return ""
    trials = study.get_trials(deepcopy=False)
    counts = ", ".join(f"{count} {name}" for name, count in end.outcomes.items())
    errors = [f"\n  trial {t.number}: {t.user_attrs['error']}" for t in trials if "error" in t.user_attrs]
    fix = "correct what fails, then continue with a larger hydra.sweeper.n_trials, or start a new study"
    return f"no trial of {end.study_name} completed ({counts}){''.join(errors[-3:])}\n  fix: {fix}"
