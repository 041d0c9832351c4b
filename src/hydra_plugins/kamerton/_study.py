"""A study that any number of workers share: opened or resumed, with an exact total, killed trials run again."""

from __future__ import annotations

import inspect
import json
import random
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import optuna
from hydra.utils import get_class, instantiate
from numpy.random import SeedSequence
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import BaseStorage, fail_stale_trials
from optuna.storages._heartbeat import BaseHeartbeat, is_heartbeat_enabled
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from hydra_plugins.kamerton._space import Space, SweepError
from hydra_plugins.kamerton._storage import masked, open_storage
from hydra_plugins.kamerton._tickets import next_step, rank, ticket

ASKED = "sweep"  # the study's attribute that holds what was asked for when it began
PRUNER = "pruner"
CONFIG = "config"  # the study's attribute with what all trials shared when it began, by dotted key
_POLL = 1.0  # seconds between looks at the trials of other workers
_SAME_FOR_ALL = {"QMCSampler"}
_WITHOUT_MEMORY = {"TPESampler", "RandomSampler", "NSGAIISampler", "NSGAIIISampler"}

SamplerFor = Callable[[int], BaseSampler]


class NothingLeft(Exception):  # noqa: N818 (it ends a loop)
    """Every trial that was asked for has run."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What makes a study this one: another space, direction, sampler or fixed override is another study."""

    space: Mapping[str, str]
    directions: Sequence[str]
    fixed: Sequence[str]
    sampler: str
    function: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as the study keeps them; no passwords."""
        return {
            "space": dict(self.space),
            "directions": list(self.directions),
            "fixed": [masked(text) for text in self.fixed],
            "sampler": self.sampler,
            "function": self.function,
        }


@dataclass
class Limits:
    """When a worker stops: `total` trials in the study (None: no bound), each of the `points` of a grid tried, a
    `deadline` of `time.monotonic()`.
    """

    total: int | None
    deadline: float | None = None
    points: Sequence[Mapping[str, Any]] | None = None
    waits: Callable[[Sequence[int]], None] = field(default=lambda numbers: None)

    def is_over(self) -> bool:
        """Whether the time is up."""
        return self.deadline is not None and time.monotonic() >= self.deadline


class SweepStudy(optuna.Study):
    """A study that hands out tickets (`_tickets`) in place of new trials, and ends with `NothingLeft`.

    While trials of other workers run it waits: one of them may be killed, and its trial is taken over.
    """

    def __init__(
        self, name: str, storage: BaseStorage, pruner: BasePruner, sampler_for: SamplerFor, limits: Limits
    ) -> None:
        super().__init__(name, storage, sampler=RandomSampler(), pruner=pruner)
        self._sampler_for, self._limits, self._claims = sampler_for, limits, threading.Lock()

    def _pop_waiting_trial_id(self) -> int:
        with self._claims:
            while not self._limits.is_over() and not self._stop_flag:
                trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
                step = next_step(trials, self._limits.total, self._limits.points)
                for trial in step.claims:
                    if self._claim(trial):
                        self.sampler = self._sampler_for(rank(trial, trials, self._limits.total))
                        return trial._trial_id
                self.add_trials(step.adds)
                if not step.claims and not step.adds:
                    self._wait_for_others(trials)
        raise NothingLeft

    def _claim(self, trial: FrozenTrial) -> bool:
        """Whether this worker is the one to run it. Its heart beats before it runs: who is killed is always missed."""
        if is_heartbeat_enabled(self._storage):
            assert isinstance(self._storage, BaseHeartbeat)
            self._storage.record_heartbeat(trial._trial_id)
        try:
            return self._storage.set_trial_state_values(trial._trial_id, state=TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False

    def _wait_for_others(self, trials: Sequence[FrozenTrial]) -> None:
        """Return when something may have changed; raises `NothingLeft` where nothing can."""
        others = [trial.number for trial in trials if trial.state == TrialState.RUNNING]
        if not others or not is_heartbeat_enabled(self._storage):
            raise NothingLeft
        self._limits.waits(others)
        time.sleep(_POLL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            fail_stale_trials(self)


def open_study(
    name: str, storage: BaseStorage, asked: Asked, *, pruner: Any, sampler_for: SamplerFor, limits: Limits
) -> SweepStudy:
    """Begin or resume a study; `pruner` is its node. Raises `SweepError` where a study of that name asks for another
    space, direction, sampler or fixed override.
    """
    optuna.create_study(
        storage=storage,
        study_name=name,
        directions=[StudyDirection[one.upper()] for one in asked.directions],
        load_if_exists=True,
        sampler=RandomSampler(),
    )
    study = SweepStudy(name, storage, build(pruner) if pruner else NopPruner(), sampler_for, limits)
    if ASKED not in study.user_attrs:
        study.set_user_attr(ASKED, asked.as_dict())
    study.set_user_attr(PRUNER, pruner)
    kept = study.user_attrs[ASKED] | {"directions": [one.name.lower() for one in study.directions]}
    if changes := differences(kept, asked.as_dict()):
        raise SweepError(
            f"the study {name!r} has begun with something else:\n"
            + "\n".join(f"  {change}" for change in changes)
            + "\n  fix: give the new sweep a name of its own with hydra.sweeper.study_name=…, or take back the change"
        )
    params = {key for trial in study.get_trials(deepcopy=False) for key in trial.params}
    if asked.function is None and (strange := sorted(params - asked.space.keys())):  # they would be typed for a job
        raise SweepError(
            f"the study {name!r} has trials with {', '.join(strange)}, which this sweep does not search over\n"
            "  fix: give the new sweep a name of its own with hydra.sweeper.study_name=…"
        )
    return study


def changes_since(study: optuna.Study, shared: Mapping[str, Any]) -> list[str]:
    """What the application's configuration has become since the study began, one sentence for each key.

    `shared` are its values by dotted key, without those that vary; those of a study that just begins are kept in it.
    """
    kept = study.user_attrs.get(CONFIG)
    if kept is None:
        study.set_user_attr(CONFIG, dict(shared))
        return []
    keys = [key for key in {**kept, **shared} if kept.get(key) != shared.get(key)]
    return [f"{key} was {_said(kept.get(key))}, is {_said(shared.get(key))}" for key in keys]


def open_trial(study_name: str, url: str, number: int) -> Trial:
    """A running trial in another process than the one that made it: to report, and to ask whether to prune."""
    study = optuna.Study(study_name, open_storage(url), sampler=RandomSampler())
    node = study.user_attrs.get(PRUNER)
    study.pruner = build(node) if node else NopPruner()
    return Trial(study, study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number))


def enqueue(study: optuna.Study, tries: Sequence[Mapping[str, Any]]) -> None:
    """Try these parameters (some or all of a trial's) before any others, once each."""
    trials = study.get_trials(deepcopy=False)
    known = [trial.system_attrs.get("fixed_params") for trial in trials]
    study.add_trials([ticket(params) for params in tries if dict(params) not in known])


def sampler_factory(node: Mapping[str, Any], seed: int | None) -> SamplerFor:
    """What makes the sampler of a trial by its rank (`_tickets.rank`).

    Samplers without memory get a seed of the trial's own, so a sweep that was interrupted goes on with the very
    trials it would have had; others get one from the first trial that this worker runs, so that workers differ.
    Quasi-Monte Carlo needs one seed everywhere: the workers share its points.
    """
    name = str(node["_target_"]).rpartition(".")[2]
    if name == "GridSampler":
        return lambda rank: RandomSampler(seed=seed)  # for what is asked to be tried with some keys alone
    seed = node.get("seed", seed) if node.get("seed") is not None else seed
    made: list[BaseSampler] = []

    def sampler_for(rank: int) -> BaseSampler:
        if not made or (seed is not None and name in _WITHOUT_MEMORY):
            own = seed if seed is None or name in _SAME_FOR_ALL else _mixed(seed, rank)
            made[:] = [_remembering(_sampler(node, own), made)]
        return made[0]

    return sampler_for


def _sampler(node: Mapping[str, Any], seed: int | None) -> BaseSampler:
    takes = inspect.signature(get_class(node["_target_"])).parameters
    sampler = build({**node, "seed": seed} if "seed" in takes else node)
    assert isinstance(sampler, BaseSampler)
    return sampler


def _remembering(sampler: BaseSampler, before: Sequence[BaseSampler]) -> BaseSampler:
    """`sampler` with what the one before it knows of the space, which takes a look at every trial to find out."""
    if before and hasattr(sampler, "_search_space"):
        sampler._search_space = before[0]._search_space  # type: ignore[attr-defined]
    return sampler


def grid_points(node: Mapping[str, Any], seed: int | None, space: Space) -> list[dict[str, Any]] | None:
    """Every combination of the space's values, shuffled, for the sampler `grid`; None for another one.

    Handed out as tickets: Optuna's own GridSampler lets workers that race take one point twice, and miss another.
    """
    if not str(node["_target_"]).endswith(".GridSampler"):
        return None
    axes = {key: one.grid() for key, one in space.dimensions.items()}
    points = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    random.Random(seed).shuffle(points)
    return points


def build(node: Any) -> Any:
    """What a node of the sweeper's configuration names, through Hydra's own list of what may be built."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return instantiate(dict(node), _convert_="all")


def _mixed(seed: int, rank: int) -> int:
    return int(SeedSequence([seed, rank]).generate_state(1)[0])


def differences(kept: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """What was and what is asked for, one sentence for each difference."""
    found = []
    for key in sorted({*kept.get("space", {}), *asked["space"]}):
        was, now = (one.get("space", {}).get(key, "not in the space") for one in (kept, asked))
        found += [f"{key} was {was}, is {now}"] if was != now else []
    for what, word in (("directions", "direction"), ("sampler", "sampler"), ("function", "custom_search_space")):
        was, now = kept.get(what), asked[what]
        found += [f"{word} was {_said(was)}, is {_said(now)}"] if was != now else []
    was, now = kept.get("fixed", []), asked["fixed"]
    found += [f"{text} was given, is not" for text in was if text not in now]
    return [*found, *(f"{text} is given, was not" for text in now if text not in was)]


def _said(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else value if isinstance(value, str) else json.dumps(value)
