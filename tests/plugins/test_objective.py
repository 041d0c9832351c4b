"""What a trial's job is given: the parameters of its space, and nothing that a study brings along."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

from hydra_plugins.kamerton._objective import objective
from hydra_plugins.kamerton._space import parse_space


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
