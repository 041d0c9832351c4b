"""How faults are reported, and how a sweep handles a failing point."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import FrozenInstanceError
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig

from kamerton.cli import main
from kamerton.config import command
from kamerton.config.command import run_command
from kamerton.config.faults import check_overrides
from kamerton.config.jobs import JobRequest, JobResult, SweepJob
from kamerton.config.schema import Config
from kamerton.errors import Fault, Interrupted, UserError
from kamerton.output import print_faults

ERROR = Fault("x.bad", "it is bad", "mend it")
WARNING = Fault("x.odd", "it is odd", "look at it", severity="warning")


def no_faults(values: dict[str, Any], sections: Collection[str]) -> list[Fault]:
    return []


def test_errors_come_first_and_both_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    print_faults([WARNING, ERROR, ERROR])
    shown = capsys.readouterr().err
    assert shown.index("error: it is bad") < shown.index("warning: it is odd")
    assert shown.endswith("2 errors, 1 warning; nothing was done\n")


def test_warnings_alone_do_not_fail(capsys: pytest.CaptureFixture[str]) -> None:
    done = []
    assert run_command([], lambda request: done.append(request), lambda *_: [WARNING]) == 0  # type: ignore[arg-type, func-returns-value]
    assert done
    shown = capsys.readouterr().err
    assert "1 warning" in shown
    assert "nothing was done" not in shown


@pytest.mark.parametrize(("error", "code"), [(UserError([ERROR]), 2), (RuntimeError("broken"), 1)])
def test_a_failing_point_does_not_stop_the_others(
    error: Exception, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended: list[SweepJob] = []

    def job(request: JobRequest[Config]) -> JobResult:
        if request.options.seed == 2:
            raise error
        return JobResult(0.5, {"loss": float(request.options.seed)}, Path(f"run-{request.options.seed}"))

    arguments = ["-m", "seed=1,2,3", f"paths.outputs={tmp_path}"]
    assert run_command(arguments, job, no_faults, ended.extend) == code
    assert [point.result and point.result.metrics["loss"] for point in ended] == [1.0, None, 3.0]
    assert str(error).splitlines()[0] in capsys.readouterr().err


HIDDEN = """# @package _global_
model:
  key: ${metrics.x.${name}.${debug_note}}
metrics:
  x: {_target_: torchmetrics.text.BLEUScore, a: {a: null, b: null}, b: {a: null, b: SECRET}}
"""


def test_a_secret_split_over_two_values_is_never_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before a sweep each of its values is checked alone, with the first of the others."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "evil.yaml").write_text(HIDDEN)
    keys: list[str | None] = []

    def job(request: JobRequest[Config]) -> JobResult:
        keys.append(request.options.model.key)
        return JobResult(0.5, {}, tmp_path)

    words = ["-m", "name=a,b", "debug_note=a,b", "experiment=evil", "--config-dir", str(tmp_path)]
    assert run_command([*words, f"paths.outputs={tmp_path}"], job, no_faults) == 2
    assert keys == [None] * 3
    assert "model.key is 'SECRET'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "evaluate", "compare", "runs", "serve"])
def test_an_unknown_flag_points_to_the_help_of_its_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--nix"]) == 2
    assert f"see kamerton {command} --help" in capsys.readouterr().err


def test_an_interrupted_sweep_exits_immediately(tmp_path: Path) -> None:
    ended: list[SweepJob] = []

    def job(request: JobRequest[Config]) -> JobResult:
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
    def job(request: JobRequest[Config]) -> JobResult | None:
        raise AssertionError("nothing may run")

    assert run_command(flags, job, no_faults) == 2
    shown = capsys.readouterr().err
    assert "fix: " in shown
    assert "Traceback" not in shown


def test_an_error_after_a_failed_point_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(flags: Any, task: partial[Any], *_: Any) -> None:
        error = ValueError("reported already")
        task.keywords["jobs"].append(SweepJob(("seed=1",), error="pruned", code=1, raised=error, is_reported=True))
        raise OSError("the database is gone")

    monkeypatch.setattr(command, "run_hydra", run)
    assert run_command(["-m", "seed=1,2", f"paths.outputs={tmp_path}"], lambda *_: None, no_faults) == 1
    assert "the database is gone" in capsys.readouterr().err


def test_the_groups_of_another_command_are_neither_listed_nor_taken(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "\noptimizer: adamw," in shown
    assert "\nengine:" not in shown
    assert main(["train", "engine=vllm"]) == 2
    output = capsys.readouterr().err
    assert "kamerton train has no engine" in output
    assert "did you mean" not in output


def test_a_single_run_gets_the_values_that_were_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One composition, one validation, and what was typed for this process stays as it is."""
    from kamerton.config import check, composed

    counts: Counter[str] = Counter()

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            counts[name] += 1
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(composed, "compose_config", counted("compose", composed.compose_config))
    monkeypatch.setattr(command, "compose_config", counted("compose", command.compose_config))
    monkeypatch.setattr(check, "to_options", counted("validate", check.to_options))
    monkeypatch.setattr(sys, "argv", ["notebook", "its", "own"])
    requests: list[JobRequest[Config]] = []

    def job(request: JobRequest[Config]) -> None:
        requests.append(request)
        assert sys.argv == ["notebook", "its", "own"]
        assert HydraConfig.get().runtime.output_dir

    assert run_command(["batch.size=3", "debug_note=${oc.env:HOME}", f"paths.outputs={tmp_path}"], job, no_faults) == 0
    (request,) = requests
    assert request.options.batch.size == request.values["batch"]["size"] == 3
    assert request.unresolved["debug_note"] == "${oc.env:HOME}"
    assert request.overrides == ("batch.size=3", "debug_note=${oc.env:HOME}", f"paths.outputs={tmp_path}")
    assert counts == {"compose": 1, "validate": 1}
    with pytest.raises(FrozenInstanceError):
        request.options.seed = 1  # type: ignore[misc]


def test_a_job_of_hydra_has_its_environment_and_callbacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OF_THE_JOB", raising=False)
    words = ["+hydra.job.env_set.OF_THE_JOB=1", f"hydra.run.dir={tmp_path}/made", "hydra.output_subdir=files"]
    callback = "+hydra.callbacks.mine={_target_: hydra.experimental.callbacks.PickleJobInfoCallback}"
    values: list[str] = []
    assert run_command([*words, callback], lambda _: values.append(os.environ["OF_THE_JOB"]), no_faults) == 0  # type: ignore[func-returns-value]
    assert values == ["1"]
    assert "OF_THE_JOB" not in os.environ
    files = {path.name for path in (tmp_path / "made" / "files").iterdir()}
    assert {"config.yaml", "hydra.yaml", "overrides.yaml", "config.pickle", "job_return.pickle"} <= files


@pytest.mark.parametrize(
    ("typed", "sections"),
    [
        ([], {"data", "model", "optimizer", "trainer"}),
        (["optimzer.lr=1"], set()),
        (["optimizer.lr=-1", "callbacks.early_stoping.patience=3"], set()),
        (["optimzer.lr=1", "trainer.max_epochs=3", "batch.size=4"], {"trainer", "batch"}),
        (["model=tiny", "optimzer.lr=1", "hydra/launcher=process"], {"model", "hydra"}),
    ],
)
def test_once_there_are_errors_the_preflight_looks_at_what_was_typed_alone(
    typed: list[str], sections: set[str]
) -> None:
    """A misspelt key is reported without importing what only checks of the default model and data need."""
    looked: list[set[str]] = []

    def preflight(values: dict[str, Any], of: Collection[str]) -> list[Fault]:
        looked.append(set(of))
        return []

    check_overrides(typed, preflight=preflight)
    (seen,) = looked
    assert seen == sections if typed else seen >= sections
