"""Every metric that a run is chosen or judged by has a direction, and all who ask get the same one."""

from __future__ import annotations

import pytest

from kamerton.config.sweep import direction
from kamerton.config.validation import LOSS_METRICS, objectives
from kamerton.direction import HIGHER_IS_BETTER, LOWER_IS_BETTER, higher_is_better, mode_of
from kamerton.score.metrics import lower_is_better
from kamerton.score.text import EXAMPLE_MEANS


def test_every_metric_has_exactly_one_direction() -> None:
    assert not HIGHER_IS_BETTER & LOWER_IS_BETTER
    for name in (*EXAMPLE_MEANS, "bleu", "chrf", *objectives({}), *LOSS_METRICS):
        assert higher_is_better(name) is not None, name


def test_callbacks_sweeps_and_comparisons_agree() -> None:
    for name in HIGHER_IS_BETTER | LOWER_IS_BETTER:
        higher = higher_is_better(name)
        assert (name in lower_is_better()) is not higher
        assert {mode_of(f"{split}/{name}") for split in ("val", "train")} == {"max" if higher else "min"}
        assert (direction(name, {}, ()) == "maximize") is higher


@pytest.mark.parametrize("name", ["my/score", "score", "my/loss", "val/", "loss/"])
def test_the_direction_of_an_unknown_metric_is_not_guessed(name: str) -> None:
    assert higher_is_better(name) is mode_of(name) is None
