"""A study shared by any number of workers: created or resumed, with an exact total; killed trials are retried."""

from __future__ import annotations

import inspect
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

from hydra_plugins.kamerton._definition import StudyDefinition, differences
from hydra_plugins.kamerton._space import Space, SweepError
from hydra_plugins.kamerton._storage import open_storage
from hydra_plugins.kamerton._tickets import next_step, rank, ticket

DEFINITION = "sweep"  # the study's attribute with its definition when it began
PRUNER = "pruner"
_POLL = 1.0  # seconds between looks at the trials of other workers
_SAME_FOR_ALL = {"QMCSampler"}
_WITHOUT_MEMORY = {"TPESampler", "RandomSampler", "NSGAIISampler", "NSGAIIISampler"}

SamplerFor = Callable[[int], BaseSampler]


class NothingLeft(Exception):  # noqa: N818 (it ends a loop)
    """Every requested trial has run."""


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
        """Return whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline


class SweepStudy(optuna.Study):
    """A study that hands out tickets (`_tickets`) in place of new trials, and raises `NothingLeft` at its end.

    It waits while trials of other workers run: if one of them is killed, its trial is retried here.
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
        """Return whether this worker runs the trial. Its first heartbeat precedes it, so every kill is noticed."""
        if is_heartbeat_enabled(self._storage):
            assert isinstance(self._storage, BaseHeartbeat)
            self._storage.record_heartbeat(trial._trial_id)
        try:
            return self._storage.set_trial_state_values(trial._trial_id, state=TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False

    def _wait_for_others(self, trials: Sequence[FrozenTrial]) -> None:
        """Return when something may have changed; raises `NothingLeft` if nothing can."""
        running = [trial.number for trial in trials if trial.state == TrialState.RUNNING]
        if not running or not is_heartbeat_enabled(self._storage):
            raise NothingLeft
        self._limits.waits(running)
        time.sleep(_POLL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            fail_stale_trials(self)


def open_study(
    name: str,
    storage: BaseStorage,
    definition: StudyDefinition,
    *,
    pruner: Any,
    sampler_for: SamplerFor,
    limits: Limits,
) -> SweepStudy:
    """Create or resume a study; `pruner` is its node. Raises `SweepError` if a study of that name has another space,
    direction, sampler or fixed override.
    """
    optuna.create_study(
        storage=storage,
        study_name=name,
        directions=[StudyDirection[direction.upper()] for direction in definition.directions],
        load_if_exists=True,
        sampler=RandomSampler(),
    )
    study = SweepStudy(name, storage, build(pruner) if pruner else NopPruner(), sampler_for, limits)
    if DEFINITION not in study.user_attrs:
        study.set_user_attr(DEFINITION, definition.as_dict())
    study.set_user_attr(PRUNER, pruner)
    kept = study.user_attrs[DEFINITION] | {"directions": [direction.name.lower() for direction in study.directions]}
    if changes := differences(kept, definition.as_dict()):
        raise SweepError(
            f"the study {name!r} was started with another definition:\n"
            + "\n".join(f"  {change}" for change in changes)
            + "\n  fix: give the new sweep its own name with hydra.sweeper.study_name=…, or undo the change"
        )
    params = {key for trial in study.get_trials(deepcopy=False) for key in trial.params}
    foreign = sorted(params - definition.space.keys())  # would become overrides of a job
    if definition.function is None and foreign:
        raise SweepError(
            f"the study {name!r} has trials with {', '.join(foreign)}, which this sweep does not search over\n"
            "  fix: give the new sweep its own name with hydra.sweeper.study_name=…"
        )
    return study


def open_trial(study_name: str, url: str, number: int) -> Trial:
    """Open a running trial in another process than the one that made it: to report values and decide on pruning."""
    study = optuna.Study(study_name, open_storage(url), sampler=RandomSampler())
    node = study.user_attrs.get(PRUNER)
    study.pruner = build(node) if node else NopPruner()
    return Trial(study, study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number))


def enqueue(study: optuna.Study, tries: Sequence[Mapping[str, Any]]) -> None:
    """Try these parameters (some or all of a trial's) before any others, once each."""
    trials = study.get_trials(deepcopy=False)
    enqueued = [trial.system_attrs.get("fixed_params") for trial in trials]
    study.add_trials([ticket(params) for params in tries if dict(params) not in enqueued])


def sampler_factory(node: Mapping[str, Any], seed: int | None) -> SamplerFor:
    """Return what makes the sampler of a trial from its rank (`_tickets.rank`).

    Samplers without memory get a seed for each trial, so an interrupted sweep resumes with exactly the trials it would
    have had; others get one from the first trial that this worker runs, so that workers differ. Quasi-Monte Carlo
    needs one seed everywhere: the workers share its points.
    """
    name = str(node["_target_"]).rpartition(".")[2]
    if name == "GridSampler":
        return lambda rank: RandomSampler(seed=seed)  # for the missing keys of enqueued parameters
    seed = node.get("seed", seed) if node.get("seed") is not None else seed
    current: list[BaseSampler] = []

    def sampler_for(rank: int) -> BaseSampler:
        if current and (seed is None or name not in _WITHOUT_MEMORY):
            return current[0]
        own_seed = seed
        if seed is not None and name not in _SAME_FOR_ALL:
            own_seed = int(SeedSequence([seed, rank]).generate_state(1)[0])
        parameters = inspect.signature(get_class(node["_target_"])).parameters
        sampler = build({**node, "seed": own_seed} if "seed" in parameters else node)
        assert isinstance(sampler, BaseSampler)
        if current and hasattr(sampler, "_search_space"):  # computed from all trials: passed on, not read again
            sampler._search_space = current[0]._search_space  # type: ignore[attr-defined]
        current[:] = [sampler]
        return sampler

    return sampler_for


def grid_points(node: Mapping[str, Any], seed: int | None, space: Space) -> list[dict[str, Any]] | None:
    """Return every combination of the space's values, shuffled, for the sampler `grid`; None for another one.

    They become tickets: with Optuna's own GridSampler, racing workers take one point twice and miss another.
    """
    if not str(node["_target_"]).endswith(".GridSampler"):
        return None
    axes = {key: dimension.grid() for key, dimension in space.dimensions.items()}
    points = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    random.Random(seed).shuffle(points)
    return points


def build(node: Any) -> Any:
    """Instantiate a node of the sweeper's configuration through Hydra, within its list of allowed targets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return instantiate(dict(node), _convert_="all")
