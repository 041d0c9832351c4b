"""How faults are said, and what a sweep does about a point that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kamerton.cli import main
from kamerton.config.command import Asked, Done, Point, run_command, say_faults
from kamerton.errors import Fault, Interrupted, UserError

ERROR = Fault("x.bad", "it is bad", "mend it")
WARNING = Fault("x.odd", "it is odd", "look at it", severity="warning")


def no_faults(_: dict[str, Any]) -> list[Fault]:
    return []


def test_errors_come_first_and_both_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert say_faults([WARNING, ERROR, ERROR]) == 2
    shown = capsys.readouterr().err
    assert shown.index("error: it is bad") < shown.index("warning: it is odd")
    assert shown.endswith("2 errors, 1 warning; nothing was done\n")


def test_warnings_alone_stop_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    done = []
    assert run_command([], lambda values, asked: done.append(values), lambda values: [WARNING]) == 0  # type: ignore[arg-type, func-returns-value]
    assert done
    shown = capsys.readouterr().err
    assert "1 warning" in shown
    assert "nothing was done" not in shown


@pytest.mark.parametrize(("error", "code"), [(UserError([ERROR]), 2), (RuntimeError("broken"), 1)])
def test_a_failing_point_leaves_the_others(
    error: Exception, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended: list[Point] = []

    def job(values: dict[str, Any], asked: Asked) -> Done:
        if values["seed"] == 2:
            raise error
        return Done(0.5, {"loss": float(values["seed"])}, Path(f"run-{values['seed']}"))

    arguments = ["-m", "seed=1,2,3", f"paths.outputs={tmp_path}"]
    assert run_command(arguments, job, no_faults, ended.extend) == code
    assert [point.done and point.done.metrics["loss"] for point in ended] == [1.0, None, 3.0]
    assert str(error).splitlines()[0] in capsys.readouterr().err


HIDDEN = """# @package _global_
model:
  key: ${metrics.x.${name}.${debug_note}}
metrics:
  x: {_target_: torchmetrics.text.BLEUScore, a: {a: null, b: null}, b: {a: null, b: SECRET}}
"""


def test_a_secret_that_only_two_values_together_give_is_sent_by_no_point(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before a sweep each of its values is checked alone, with the first of the others."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "evil.yaml").write_text(HIDDEN)
    keys: list[str | None] = []

    def job(values: dict[str, Any], asked: Asked) -> Done:
        keys.append(values["model"]["key"])
        return Done(0.5, {}, tmp_path)

    words = ["-m", "name=a,b", "debug_note=a,b", "experiment=evil", "--config-dir", str(tmp_path)]
    assert run_command([*words, f"paths.outputs={tmp_path}"], job, no_faults) == 2
    assert keys == [None] * 3
    assert "model.key is 'SECRET'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "evaluate", "compare", "runs", "serve"])
def test_an_unknown_flag_points_to_the_help_of_its_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--nix"]) == 2
    assert f"see kamerton {command} --help" in capsys.readouterr().err


def test_an_interrupted_sweep_ends_at_once(tmp_path: Path) -> None:
    ended: list[Point] = []

    def job(values: dict[str, Any], asked: Asked) -> Done:
        raise Interrupted("go on with …")

    assert run_command(["-m", "seed=1,2", f"paths.outputs={tmp_path}"], job, no_faults, ended.extend) == 130


@pytest.mark.parametrize(
    "flags",
    [
        ["--foo"],
        ["--cfg", "nix"],
        ["--cfg"],
        ["--cfg", "job", "-m"],
        ["--resolve"],
        ["--config-name", "x"],
        ["--config-path", "/tmp"],
        ["--experimental-rerun", "x.pickle"],
        ["--info", "nix"],
        ["hydra.launcher=foo", "-m", "seed=1,2"],
        ["hydra.sweeper.max_batch_size=-1", "-m", "seed=1,2"],
    ],
)
def test_flags_that_cannot_be_used_are_faults(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    def job(values: dict[str, Any], asked: Asked) -> Done | None:
        raise AssertionError("nothing may run")

    assert run_command(flags, job, no_faults) == 2
    shown = capsys.readouterr().err
    assert "fix: " in shown
    assert "Traceback" not in shown


def test_trouble_after_a_failed_point_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kamerton.config import command

    def run(arguments: Any, job: Any, config_dir: Any, points: list[Point], *_: Any) -> None:
        points.append(Point(("seed=1",), error="pruned", code=1, raised=ValueError("said already")))
        raise OSError("the database is gone")

    monkeypatch.setattr(command, "_run_hydra", run)
    assert run_command(["-m", "seed=1,2", f"paths.outputs={tmp_path}"], lambda *_: None, no_faults) == 1
    assert "the database is gone" in capsys.readouterr().err


def test_the_groups_of_another_command_are_neither_listed_nor_taken(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "\noptimizer: adamw," in shown
    assert "\nengine:" not in shown
    assert main(["train", "engine=vllm"]) == 2
    said = capsys.readouterr().err
    assert "kamerton train has no engine" in said
    assert "did you mean" not in said
