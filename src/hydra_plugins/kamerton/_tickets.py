"""Which trials of a study may run, decided from facts that never change, so that any number of workers agree without
a lock: exactly the requested number, each once, and retries of those that were killed or interrupted.

A trial waits as a *ticket* (state WAITING) until one worker claims it, which storages do atomically. Workers that
race can add a ticket too many. Whether a ticket is valid depends only on trials with smaller numbers, so all workers
leave the same one alone; it becomes valid when `n_trials` is raised.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

OUTCOMES = ("complete", "pruned", "diverged", "failed", "killed", "interrupted")
MAX_KILLS = 3  # a trial that kills its process every time, such as by running out of memory, is given up
_ORIGINAL, _HISTORY = "failed_trial", "retry_history"  # as optuna.storages.RetryHeartbeatStaleTrialCallback writes
_ENQUEUED = "fixed_params"  # as optuna.Study.enqueue_trial writes
_CONSTRAINTS = "constraints"


def ticket(params: Mapping[str, Any] | None = None) -> FrozenTrial:
    """Return a new waiting trial, with `params` given or all to be suggested. Its outcome is `killed` until it ends
    otherwise: a killed worker writes nothing.
    """
    attributes = {_ENQUEUED: dict(params)} if params else {}
    return create_trial(state=TrialState.WAITING, user_attrs={"outcome": "killed"}, system_attrs=attributes)


def retry(trial: FrozenTrial) -> FrozenTrial:
    """Return a ticket that continues `trial`: its parameters, its reported values, and its run directory."""
    kept = {key: value for key, value in trial.system_attrs.items() if not key.startswith(_CONSTRAINTS)}
    history = {_ORIGINAL: kept.get(_ORIGINAL, trial.number), _HISTORY: [*kept.get(_HISTORY, []), trial.number]}
    attributes = {key: value for key, value in trial.user_attrs.items() if key != "error"}
    return create_trial(
        state=TrialState.WAITING,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values=trial.intermediate_values,
        user_attrs={**attributes, "outcome": "killed"},
        system_attrs={**kept, **history},
    )


def outcome(trial: FrozenTrial) -> str | None:
    """Return how a trial ended, one of `OUTCOMES`; None while it runs. Other programs set only the state."""
    recorded = trial.user_attrs.get("outcome")
    if trial.state == TrialState.COMPLETE:
        return "complete"
    if trial.state == TrialState.PRUNED:
        return "diverged" if recorded == "diverged" else "pruned"
    if trial.state == TrialState.FAIL:
        if recorded in ("failed", "interrupted"):
            return str(recorded)
        return "killed" if recorded else "failed"
    return None


@dataclass(frozen=True, slots=True)
class Step:
    """What a worker that needs a trial does next: claim the first of `claims` that no other worker gets; if there are
    none, add the tickets `adds` and look again; without either, nothing is left to start.
    """

    claims: Sequence[FrozenTrial] = ()
    adds: Sequence[FrozenTrial] = ()


def next_step(
    trials: Sequence[FrozenTrial], total: int | None, points: Sequence[Mapping[str, Any]] | None = None
) -> Step:
    """Return the next step of a worker that sees these trials, in order of their numbers; `total` are requested. With
    `points` (a grid) each of them is tried once, in this order.
    """
    valid = valid_trials(trials, total)
    if waiting := [trial for trial in valid if trial.state == TrialState.WAITING]:  # retries first
        return Step(claims=sorted(waiting, key=lambda trial: (_ORIGINAL not in trial.system_attrs, trial.number)))
    if again := [retry(trial) for trial in _cut_short(trials)]:
        return Step(adds=again)
    if total is not None and sum(_ORIGINAL not in trial.system_attrs for trial in valid) >= total:
        return Step()
    if points is None:
        return Step(adds=[ticket()])
    tried = {_mark(trial) for trial in trials}
    left = (point for point in points if _enqueued_mark(point) not in tried)
    return Step(adds=[ticket(point) for point in islice(left, 1)])


def valid_trials(trials: Sequence[FrozenTrial], total: int | None) -> list[FrozenTrial]:
    """Return the trials that count, in order of their numbers: at most `total` besides retries, none of them twice."""
    kept, seen, fresh = [], set(), 0
    for trial in trials:
        mark = _mark(trial)
        if mark in seen or (_ORIGINAL not in trial.system_attrs and total is not None and fresh >= total):
            continue
        if mark is not None:
            seen.add(mark)
        fresh += _ORIGINAL not in trial.system_attrs
        kept.append(trial)
    return kept


def rank(trial: FrozenTrial, trials: Sequence[FrozenTrial], total: int | None) -> int:
    """Return the number that a trial, or the one it continues, would have without any retries."""
    first = trial.system_attrs.get(_ORIGINAL, trial.number)
    valid = valid_trials(trials, total)
    return sum(other.number < first and _ORIGINAL not in other.system_attrs for other in valid)


def _cut_short(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that were killed or interrupted and that no ticket continues yet."""
    ended = [trial for trial in trials if outcome(trial) in ("killed", "interrupted")]
    if not ended:
        return []
    continued = superseded(trials)
    killed = {trial.number for trial in ended if outcome(trial) == "killed"}
    return [
        trial
        for trial in ended
        if trial.number not in continued
        and len(killed & {*trial.system_attrs.get(_HISTORY, []), trial.number}) < MAX_KILLS
    ]


def superseded(trials: Sequence[FrozenTrial]) -> set[int]:
    """Return the numbers of the trials that a later one continues."""
    return {number for trial in trials for number in trial.system_attrs.get(_HISTORY, [])}


def _mark(trial: FrozenTrial) -> str | None:
    """Return what only one trial may do: continue certain others, or try certain enqueued parameters."""
    if _HISTORY in trial.system_attrs:
        return f"retry {trial.system_attrs[_HISTORY]}"
    return _enqueued_mark(trial.system_attrs[_ENQUEUED]) if _ENQUEUED in trial.system_attrs else None


def _enqueued_mark(params: Mapping[str, Any]) -> str:
    return f"enqueued {json.dumps(params, sort_keys=True)}"
