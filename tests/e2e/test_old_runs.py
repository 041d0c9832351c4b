"""Runs that version 0.1.0 wrote, in `tests/fixtures/runs_0_1`, are still read, compared, evaluated and resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from kamerton.cli import main
from kamerton.config.target_checks import check_targets
from support.runs import record

OLD = Path(__file__).parents[1] / "fixtures" / "runs_0_1"
CONFIGS = sorted(OLD.glob("outputs/**/config.yaml"))


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the old runs and their data in the working directory; one thread, as they were trained with."""
    folder = shutil.copytree(OLD, tmp_path / "copy")
    monkeypatch.chdir(folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield folder
    torch.set_num_threads(threads)


def typed(run: Path) -> list[str]:
    """The overrides of the command that made the run."""
    return yaml.safe_load((run / "overrides.yaml").read_text())


def assert_same_weights(adapter: Path, expected: Path) -> None:
    """Bit for bit on the machine that trained the old runs; elsewhere as near as rounding allows."""
    recorded = json.loads((OLD / "expected" / "machine.json").read_text())
    here = {"torch": torch.__version__, "cpu": cpu(), "instructions": torch.backends.cpu.get_cpu_capability()}
    tolerance = {"rtol": 0.0, "atol": 0.0} if here == recorded else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(load_file(adapter), load_file(expected), **tolerance)


def cpu() -> str:
    """The model of the processor, as Linux names it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.name)
def test_every_class_that_an_old_configuration_names_is_there(path: Path) -> None:
    values = yaml.safe_load(path.read_text())
    assert check_targets({key: values[key] for key in ("optimizer", "trainer", "callbacks", "logger")}) == []


@pytest.mark.parametrize(("name", "state"), [("done", "succeeded"), ("paused", "paused"), ("dropout", "paused")])
def test_an_old_run_is_shown(old: Path, name: str, state: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "show", name]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"state {state}" in shown
    assert ("step 16 of 16" if state == "succeeded" else "step 9 of 16") in shown


def test_old_runs_are_compared(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "runs=[outputs/old/done,outputs/search/lr/trials/0]", "baseline=done", "name=old"]) == 0
    assert "5 examples" in capsys.readouterr().out


def test_an_old_run_is_evaluated_to_the_metrics_that_it_recorded(old: Path) -> None:
    run = old / "outputs" / "old" / "done"
    assert main(["evaluate", f"run={run}", "name=again"]) == 0
    metrics = json.loads((old / "outputs/evaluations/again/evaluation.json").read_text())["metrics"]["test"]
    recorded = record(run)["metrics"]["test"]
    for name in ("loss", "token_accuracy", "accuracy", "f1"):
        assert metrics[name] == pytest.approx(recorded[name], rel=1e-5), name


@pytest.mark.parametrize(
    ("name", "expected"),
    [("paused", "outputs/old/done/model/adapter_model.safetensors"), ("dropout", "expected/dropout.safetensors")],
)
def test_an_old_paused_run_resumes_to_the_same_weights(old: Path, name: str, expected: str) -> None:
    run = old / "outputs" / "old" / name
    assert main(["train", *typed(run)]) == 0
    assert record(run)["state"] == "succeeded"
    assert record(run)["progress"]["step"] == 16
    assert_same_weights(run / "model" / "adapter_model.safetensors", OLD / expected)


@pytest.mark.slow
def test_an_old_sweep_resumes_and_keeps_its_trials(old: Path) -> None:
    sweep = old / "outputs" / "search" / "lr"
    before = [record(sweep / "trials" / str(number)) for number in range(2)]
    fixed = [text.lstrip("+") for text in json.loads((sweep / "sweep.json").read_text())["fixed"]]
    options = ["hydra.sweeper.n_trials=3", "hydra.sweeper.study_name=lr", "optimizer.lr=tag(log, interval(1e-3, 1e-1))"]
    assert main(["train", *fixed, *options]) == 0
    after = [record(sweep / "trials" / str(number)) for number in range(3)]
    for number in range(2):
        assert after[number]["metrics"]["validation"] == before[number]["metrics"]["validation"]
    assert json.loads((sweep / "sweep.json").read_text())["outcomes"] == {"complete": 3}
