"""A change that moves every way of computing alike is seen: the trajectory is the one that was recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from invariant.record import ADAPTERS, COLUMNS, REFERENCE, STEPS, trajectory


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_tiny_model_trains_as_recorded(adapter: str, tmp_path: Path) -> None:
    recorded = json.loads(REFERENCE.read_text())
    result = trajectory(tmp_path, adapter)
    for column in COLUMNS:
        expected, tolerance = recorded[adapter][column], recorded["relative_tolerance"][column]
        assert len(result[column]) == STEPS
        assert result[column] == pytest.approx(expected, rel=tolerance), f"{column}, recorded with {recorded['torch']}"


def test_the_recorded_run_learns_and_its_rate_rises_and_falls() -> None:
    for adapter in ADAPTERS:
        recorded = json.loads(REFERENCE.read_text())[adapter]
        loss, rate = recorded["train/loss"], recorded["lr"]
        assert sum(loss[-4:]) < sum(loss[:4])
        assert rate[0] < max(rate)
        assert rate[-1] < max(rate)
