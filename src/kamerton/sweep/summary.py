"""What a study has come to, as plain values: its trials, its best ones, what mattered, and what pruning saved.

Trials that another one went on with are left out: the last attempt stands for all of them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
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

EDGE = 0.02  # of an interval: nearer to its end, a best value may lie beyond it
FEWEST = 10  # completed trials, to say what mattered


@dataclass(frozen=True, slots=True)
class Row:
    """One trial. `reports` are the values at its validations, by their number; `steps` are done and whole ones."""

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
        """Its first value; of a trial without values what it reported last."""
        if self.values:
            return self.values[0]
        return self.reports[max(self.reports)] if self.reports else None


def rows(study: Study) -> list[Row]:
    """Every trial that has begun, in the order of their numbers."""
    trials = study.get_trials(deepcopy=False)
    gone = superseded(trials)
    best = {trial.number for trial in best_trials(study)}
    begun = [trial for trial in trials if trial.state != TrialState.WAITING and trial.number not in gone]
    return [_row(trial, trial.number in best) for trial in begun]


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
    """How much each parameter decides whether a trial is among the best ones, most important first; shares of 1.

    PED-ANOVA (arXiv 2304.10255), Optuna's default. Empty where too few trials say anything.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < FEWEST:
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = get_param_importances(study)
    except (ValueError, RuntimeError):  # no parameter is in every trial, or all values are equal
        return {}
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


def saved(found: Sequence[Row]) -> tuple[int, int, int]:
    """Optimizer steps: those that were done, those that whole trials would have taken, and those that pruning saved."""
    known = [(row, *row.steps) for row in found if row.steps]
    done = sum(steps for _, steps, _ in known)
    spared = sum(whole - steps for row, steps, whole in known if row.outcome == "pruned")
    return done, done + spared, spared


def objectives(study: Study) -> list[str]:
    """The names of the values, as its trials noted them."""
    noted = (trial.user_attrs.get("objective") for trial in study.get_trials(deepcopy=False))
    return next((list(names) for names in noted if names), [f"value {i + 1}" for i, _ in enumerate(study.directions)])


def log_scaled(study: Study) -> set[str]:
    """The parameters that are searched over on a logarithmic scale."""
    return {name for name, one in distributions(study).items() if getattr(one, "log", False)}


def distributions(study: Study) -> dict[str, Any]:
    """Every parameter's distribution, as of the last trial that has it."""
    return {name: one for trial in study.get_trials(deepcopy=False) for name, one in trial.distributions.items()}


def at_the_edge(study: Study, params: Mapping[str, Any]) -> list[str]:
    """The parameters whose value is at an end of its interval, where better ones may lie beyond."""
    known = distributions(study)
    return [name for name, value in params.items() if name in known and _is_at_edge(known[name], value)]


def _is_at_edge(one: Any, value: Any) -> bool:
    if not isinstance(one, FloatDistribution | IntDistribution) or one.low == one.high:
        return False
    low, high, here = (math.log(end) if one.log else float(end) for end in (one.low, one.high, value))
    return min(here - low, high - here) < EDGE * (high - low)
