"""The state that a worker without trials reports while another worker may still have one."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from hydra_plugins.kamerton._results import result
from hydra_plugins.kamerton._space import Space


def test_a_trial_that_ends_while_the_best_one_is_read_still_counts_as_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the worker that did not see its value would score another trial as the best one, and so would this one."""
    study = optuna.create_study()
    first, second = study.ask(), study.ask()
    study.tell(first, 2.0)
    seen = study.get_trials

    def then_it_ends(*args: object, **kwargs: object) -> list[optuna.trial.FrozenTrial]:
        trials = seen(deepcopy=True)
        monkeypatch.setattr(study, "get_trials", seen)
        study.tell(second, 1.0)
        return trials

    monkeypatch.setattr(study, "get_trials", then_it_ends)
    assert result(study, Space({}), tmp_path, "").running == (1,)
    last = result(study, Space({}), tmp_path, "")
    assert last.running == ()
    assert [item.number for item in last.best] == [1]
