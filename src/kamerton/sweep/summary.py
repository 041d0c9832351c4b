"""What a study has come to, as plain values: its trials, its best ones, what mattered, and what pruning saved.

Trials that another one went on with are left out: the last attempt stands for all of them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna import Study
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.importance import get_param_importances
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.kamerton._results import best_trials
from hydra_plugins.kamerton._tickets import outcome, superseded
from hydra_plugins.kamerton.trial import original_number
from kamerton.sweep.trial import STEPS

EDGE = 0.02  # of an interval: a best value nearer to a bound may lie beyond it
MIN_TRIALS = 10  # completed, for an importance of parameters


@dataclass(frozen=True, slots=True)
class Row:
    """One trial. `reports` are the values by validation number; `steps` are the completed and the planned ones."""

    number: int
    directory: int
    outcome: str
    values: tuple[float, ...]
    params: Mapping[str, Any]
    reports: Mapping[int, float]
    feasible: bool
    best: bool
    steps: tuple[int, int] | None
    seconds: float | None
    error: str | None

    @property
    def last(self) -> float | None:
        """Its first value; without values the last reported one."""
        if self.values:
            return self.values[0]
        return self.reports[max(self.reports)] if self.reports else None


def rows(study: Study) -> list[Row]:
    """Return every trial that has started, in order of their numbers."""
    trials = study.get_trials(deepcopy=False)
    retried = superseded(trials)
    best = {trial.number for trial in best_trials(study)}
    started = [trial for trial in trials if trial.state != TrialState.WAITING and trial.number not in retried]
    return [_row(trial, trial.number in best) for trial in started]


def _row(trial: FrozenTrial, best: bool) -> Row:
    steps = trial.user_attrs.get(STEPS)
    return Row(
        trial.number,
        original_number(trial),
        outcome(trial) or "running",
        tuple(trial.values or ()) if trial.state == TrialState.COMPLETE else (),
        dict(trial.params),
        dict(trial.intermediate_values),
        all(beyond <= 0 for beyond in trial.constraints.values()),
        best,
        (int(steps[0]), int(steps[1])) if steps else None,
        trial.duration.total_seconds() if trial.duration else None,
        trial.user_attrs.get("error"),
    )


def importance(study: Study) -> dict[str, float]:
    """Return how much each parameter decides whether a trial is among the best; shares of 1, largest first.

    PED-ANOVA (arXiv 2304.10255), Optuna's default. Empty with too few trials.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < MIN_TRIALS:
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shares = get_param_importances(study)
    except (ValueError, RuntimeError):  # no parameter is in every trial, or all values are equal
        return {}
    return {name: float(value) for name, value in shares.items() if math.isfinite(value)}


def saved(rows: Sequence[Row]) -> tuple[int, int, int]:
    """Return the optimizer steps that were done, that complete trials would have taken, and that pruning saved."""
    measured = [(row, *row.steps) for row in rows if row.steps]
    done = sum(steps for _, steps, _ in measured)
    spared = sum(planned - steps for row, steps, planned in measured if row.outcome == "pruned")
    return done, done + spared, spared


def objectives(study: Study) -> list[str]:
    """Return the names of the values, as the trials recorded them."""
    recorded = (trial.user_attrs.get("objective") for trial in study.get_trials(deepcopy=False))
    default = [f"value {i + 1}" for i, _ in enumerate(study.directions)]
    return next((list(names) for names in recorded if names), default)


def log_scaled(study: Study) -> set[str]:
    """Return the parameters that are searched on a logarithmic scale."""
    return {name for name, distribution in distributions(study).items() if getattr(distribution, "log", False)}


def distributions(study: Study) -> dict[str, Any]:
    """Return every parameter's distribution, from the last trial that has it."""
    distributions: dict[str, Any] = {}
    for trial in study.get_trials(deepcopy=False):
        distributions |= trial.distributions
    return distributions


def at_the_edge(study: Study, params: Mapping[str, Any]) -> list[str]:
    """Return the parameters whose value is at a bound of its interval, so that better ones may lie beyond."""
    space = distributions(study)
    at_edge = []
    for name, value in params.items():
        distribution = space.get(name)
        if not isinstance(distribution, FloatDistribution | IntDistribution) or distribution.low == distribution.high:
            continue
        scale: Callable[[float], float] = math.log if distribution.log else float
        low, high, position = scale(distribution.low), scale(distribution.high), scale(value)
        if min(position - low, high - position) < EDGE * (high - low):
            at_edge.append(name)
    return at_edge
