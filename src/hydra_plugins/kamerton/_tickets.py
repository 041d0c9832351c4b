"""Which trials of a study may run, decided from facts that never change, so that any number of workers agree without
a lock: exactly as many as were asked for, each once, and those that were killed or interrupted again.

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
MAX_KILLS = 3  # a trial that ends its process every time, as by running out of memory, is not tried for ever
_ORIGINAL, _HISTORY = "failed_trial", "retry_history"  # as optuna.storages.RetryHeartbeatStaleTrialCallback writes
_ASKED = "fixed_params"  # as optuna.Study.enqueue_trial writes
_CONSTRAINTS = "constraints"


def ticket(params: Mapping[str, Any] | None = None) -> FrozenTrial:
    """A new trial that waits, with `params` given or all to be suggested. Until it ends otherwise it is one that was
    killed: who is killed writes nothing.
    """
    attributes = {_ASKED: dict(params)} if params else {}
    return create_trial(state=TrialState.WAITING, user_attrs={"outcome": "killed"}, system_attrs=attributes)


def retry(trial: FrozenTrial) -> FrozenTrial:
    """A ticket that goes on with `trial`: its parameters, what it reported so far, and its run directory."""
    kept = {key: one for key, one in trial.system_attrs.items() if not key.startswith(_CONSTRAINTS)}
    history = {_ORIGINAL: kept.get(_ORIGINAL, trial.number), _HISTORY: [*kept.get(_HISTORY, []), trial.number]}
    attributes = {key: one for key, one in trial.user_attrs.items() if key != "error"}
    return create_trial(
        state=TrialState.WAITING,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values=trial.intermediate_values,
        user_attrs={**attributes, "outcome": "killed"},
        system_attrs={**kept, **history},
    )


def outcome(trial: FrozenTrial) -> str | None:
    """How a trial ended, one of `OUTCOMES`; None while it has not. A trial of another program has only its state."""
    said = trial.user_attrs.get("outcome")
    if trial.state == TrialState.COMPLETE:
        return "complete"
    if trial.state == TrialState.PRUNED:
        return "diverged" if said == "diverged" else "pruned"
    if trial.state == TrialState.FAIL:
        return said if said in ("failed", "interrupted") else "killed" if said else "failed"
    return None


@dataclass(frozen=True, slots=True)
class Step:
    """What a worker that needs a trial does next: claim one of these, the first that nobody else gets; without any
    there, add these tickets and look again; without either, nothing is left to begin.
    """

    claims: Sequence[FrozenTrial] = ()
    adds: Sequence[FrozenTrial] = ()


def next_step(
    trials: Sequence[FrozenTrial], total: int | None, points: Sequence[Mapping[str, Any]] | None = None
) -> Step:
    """The next step of a worker that sees these trials, in order of their numbers; `total` are asked for. With
    `points` (a grid) each of them is tried once, in this order.
    """
    valid = valid_trials(trials, total)
    if claims := _waiting(valid):
        return Step(claims=claims)
    if again := [retry(trial) for trial in _cut_short(trials)]:
        return Step(adds=again)
    if total is not None and sum(_ORIGINAL not in trial.system_attrs for trial in valid) >= total:
        return Step()
    if points is None:
        return Step(adds=[ticket()])
    tried = {_mark(trial) for trial in trials}
    left = (point for point in points if _asked(point) not in tried)
    return Step(adds=[ticket(point) for point in islice(left, 1)])


def valid_trials(trials: Sequence[FrozenTrial], total: int | None) -> list[FrozenTrial]:
    """The trials, in order of their numbers, that count: at most `total` that are no retry, none of them twice."""
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
    """The number that a trial, or the one it goes on with, would have if none had been run again."""
    first = trial.system_attrs.get(_ORIGINAL, trial.number)
    return sum(one.number < first and _ORIGINAL not in one.system_attrs for one in valid_trials(trials, total))


def _waiting(valid: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The tickets that may be claimed, those that go on with a trial first."""
    found = [trial for trial in valid if trial.state == TrialState.WAITING]
    return sorted(found, key=lambda trial: (_ORIGINAL not in trial.system_attrs, trial.number))


def _cut_short(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that were killed or interrupted and that no ticket goes on with yet."""
    ended = [trial for trial in trials if outcome(trial) in ("killed", "interrupted")]
    if not ended:
        return []
    continued = {number for trial in trials for number in trial.system_attrs.get(_HISTORY, [])}
    killed = {trial.number for trial in ended if outcome(trial) == "killed"}
    return [
        trial
        for trial in ended
        if trial.number not in continued
        and len(killed & {*trial.system_attrs.get(_HISTORY, []), trial.number}) < MAX_KILLS
    ]


def superseded(trials: Sequence[FrozenTrial]) -> set[int]:
    """Numbers of the trials that a later one goes on with."""
    return {number for trial in trials for number in trial.system_attrs.get(_HISTORY, [])}


def _mark(trial: FrozenTrial) -> str | None:
    """What only one trial may do: go on with certain others, or try certain parameters that were asked for."""
    if _HISTORY in trial.system_attrs:
        return f"retry {trial.system_attrs[_HISTORY]}"
    return _asked(trial.system_attrs[_ASKED]) if _ASKED in trial.system_attrs else None


def _asked(params: Mapping[str, Any]) -> str:
    return f"asked {json.dumps(params, sort_keys=True)}"
