"""Points and trials of a sweep that train over two processes each: real DDP over gloo."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kamerton.cli import main
from support.runs import LEAN
from support.warm import Starter

SMALL = (*LEAN, "logger=null", "trainer.max_steps=2", "trainer.accelerator=cpu")


Run = Callable[..., list[dict[str, Any]]]
Here = Callable[[str], dict[str, Any]]
pytestmark = pytest.mark.slow


@pytest.fixture
def run(animals: Path, tmp_path: Path, warm: Starter) -> Run:
    """Runs the command; returns the records of all runs that it made."""

    def records(name: str, *arguments: str) -> list[dict[str, Any]]:
        words = ["train", *arguments, *SMALL, f"data.path={animals}", f"paths.outputs={tmp_path / name}"]
        warm.finish("-m", "kamerton", *words, env={**os.environ, "OMP_NUM_THREADS": "1"})
        return [json.loads(path.read_text()) for path in (tmp_path / name).rglob("run.json")]

    return records


@pytest.fixture
def here(animals: Path, tmp_path: Path) -> Here:
    """The same point in this process alone; returns its record."""

    def record(override: str) -> dict[str, Any]:
        assert main(["train", override, *SMALL, f"data.path={animals}", f"paths.outputs={tmp_path}/here"]) == 0
        (path,) = (tmp_path / "here").rglob("run.json")
        return json.loads(path.read_text())

    return record


def test_each_point_starts_its_own_processes(run: Run, here: Here) -> None:
    """Two points in one command; the second gives the same result as in a single process."""
    points = run("sweep", "-m", "trainer=ddp", "seed=1,2")
    assert sorted((record["seed"], record["state"]) for record in points) == [(1, "succeeded"), (2, "succeeded")]
    (second,) = (record for record in points if record["seed"] == 2)
    alone = here("seed=2")
    assert second["metrics"]["test"]["loss"] == pytest.approx(alone["metrics"]["test"]["loss"], rel=1e-4)


@pytest.mark.parametrize(("launcher", "count"), [("warm", 2), ("process", 1)])
def test_a_trial_trains_over_two_processes(run: Run, here: Here, launcher: str, count: int) -> None:
    options = ["sweep=default", "optimizer.lr=tag(log,interval(1e-3,1e-2))", f"hydra.sweeper.n_trials={count}"]
    trials = run("study", *options, "trainer=ddp", f"launcher={launcher}", "sweep.final=null")
    assert [record["state"] for record in trials] == ["succeeded"] * count
    assert sorted(record["trial"]["number"] for record in trials) == [*range(count)]
    alone = here(f"optimizer.lr={trials[0]['trial']['params']['optimizer.lr']}")
    best, expected = (record["metrics"]["best"]["loss"] for record in (trials[0], alone))
    assert best == pytest.approx(expected, rel=1e-4)
