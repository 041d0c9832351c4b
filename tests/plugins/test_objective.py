"""What a trial's job is given: the parameters of its space, and nothing that a study brings along."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

from hydra_plugins.kamerton._definition import StudyDefinition
from hydra_plugins.kamerton._objective import objective
from hydra_plugins.kamerton._space import SweepError, parse_space
from hydra_plugins.kamerton._study import Limits, open_study

STRANGE = create_trial(
    state=TrialState.COMPLETE,
    value=0.0,
    params={"allow_targets": "[os.]"},
    distributions={"allow_targets": CategoricalDistribution(["[os.]"])},
)


def test_a_study_with_parameters_of_another_space_is_not_opened() -> None:
    """Its best trial would be trained or scored with them."""
    storage = optuna.storages.InMemoryStorage()
    definition = StudyDefinition({"x": "choice(1,2)"}, ["minimize"], (), "optuna.samplers.RandomSampler")
    options: dict[str, Any] = {"pruner": None, "sampler_for": lambda rank: optuna.samplers.RandomSampler()}
    study = open_study("s", storage, definition, limits=Limits(1), **options)
    study.add_trial(STRANGE)
    with pytest.raises(SweepError, match="allow_targets"):
        open_study("s", storage, definition, limits=Limits(1), **options)


def test_parameters_that_a_study_brings_are_not_typed_for_the_job() -> None:
    distributions = {"allow_targets": CategoricalDistribution(["[os.]"])}
    study = optuna.create_study()
    study.add_trial(
        create_trial(state=TrialState.WAITING, params={"allow_targets": "[os.]"}, distributions=distributions)  # type: ignore[arg-type]
    )
    launched: list[list[str]] = []

    def launch(trial: Any, words: list[str]) -> Any:
        launched.append(words)
        raise ValueError("no job runs here")

    run = objective(parse_space({}, ["x=1,2"]), launch, None, 1)
    study.optimize(run, n_trials=2, catch=(Exception,))
    assert len(launched) == 1
    assert launched[0][0].startswith("x=")
    assert "does not search over" in study.trials[0].user_attrs["error"]
