"""The number of optimizer steps of a run, its limit, and the number of warm-up steps."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kamerton.config.check import to_config
from kamerton.config.compose import compose_values
from kamerton.config.schema import Config
from kamerton.errors import UserError
from kamerton.run.directory import RunDirectory
from kamerton.train.steps import binding_limit, total_steps, with_warmup


def config(*overrides: str) -> Config:
    return to_config(compose_values(["data=jsonl", *overrides]))


@pytest.mark.parametrize(
    ("typed", "steps", "name", "text"),
    [
        ([], 27, "max_epochs", "trainer.max_epochs=1"),
        (["trainer.max_steps=150"], 150, "max_steps", "trainer.max_steps=150"),
        (
            ["trainer.max_steps=150", "trainer.max_epochs=1"],
            27,
            "max_epochs",
            "trainer.max_epochs=1 ends before trainer.max_steps=150",
        ),
        (
            ["trainer.max_steps=20", "trainer.max_epochs=4"],
            20,
            "max_steps",
            "trainer.max_steps=20 ends before trainer.max_epochs=4",
        ),
        (
            ["trainer.max_steps=27", "trainer.max_epochs=1"],
            27,
            "max_epochs",
            "trainer.max_epochs=1 and trainer.max_steps=27",
        ),
    ],
)
def test_the_earlier_of_the_limits_that_were_typed_ends_the_run(
    typed: list[str], steps: int, name: str, text: str
) -> None:
    assert total_steps(config(*typed), 27) == steps
    assert binding_limit(config(*typed), 27) == (name, text)


def warmed(folder: Path, steps: int, *typed: str, **run: Any) -> tuple[int, str, RunDirectory]:
    """The steps of warm-up of a run, what was printed, and its directory."""
    directory = RunDirectory(folder, **{"resuming": False, **run})
    folder.mkdir(exist_ok=True)
    screen = io.StringIO()
    options = with_warmup(config(*typed), directory, steps, Console(file=screen, width=400)).scheduler
    assert options.warmup_ratio is None
    assert options.warmup_steps is not None
    return options.warmup_steps, screen.getvalue(), directory


@pytest.mark.parametrize(("steps", "expected"), [(1, 0), (9, 0), (10, 1), (27, 2), (99, 9), (100, 10), (5000, 10)])
def test_the_usual_warm_up_fits_itself_to_a_short_run(tmp_path: Path, steps: int, expected: int) -> None:
    warmup, printed, run = warmed(tmp_path, steps)
    assert (warmup, printed) == (expected, "")
    assert run.values["schedule"] == {"warmup_steps": expected}


def test_a_typed_warm_up_as_long_as_the_run_is_reported_and_one_that_leaves_no_rate_is_refused(tmp_path: Path) -> None:
    warmup, printed, run = warmed(tmp_path, 6, "scheduler.warmup_steps=100")
    assert warmup == 100
    assert "scheduler.warmup_steps is 100, and the run has 6 steps" in printed
    (event,) = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert (event["code"], "5%" in event["message"]) == ("schedule.warmup", True)
    with pytest.raises(UserError) as raised:
        warmed(tmp_path, 1, "scheduler.warmup_steps=10")
    (fault,) = raised.value.faults
    assert (fault.column, "the run has 1 step" in fault.message) == ("scheduler.warmup_steps", True)


def test_a_resumed_run_keeps_its_warm_up(tmp_path: Path) -> None:
    began = {"schedule": {"warmup_steps": 2}}
    assert warmed(tmp_path, 200, resuming=True, started=began)[0] == 2
    assert warmed(tmp_path, 27, resuming=True)[0] == 2  # nothing was trained yet
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    assert warmed(tmp_path, 27, resuming=True)[0] == 10  # what an older run began with
    assert warmed(tmp_path, 27, "scheduler.warmup_ratio=0.2", resuming=True)[0] == 6
