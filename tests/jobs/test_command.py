"""`kamerton runs` in the shell: what it shows, what it does to a run, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from kamerton.cli import main
from kamerton.jobs.store import read_status
from kamerton.jobs.worker import command
from kamerton.run.record import Job
from support.runs import record
from support.warm import Starter

TRAIN = ["model=tiny", "data=jsonl", "base=false", "baselines=false", "model.export=null", "logger=csv", "threads=1"]


def make(root: Path, name: str, state: str, **more: object) -> Path:
    path = root / name
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"state": state, "times": {"created": "2026-01-02T03:04"}, **more}))
    return path


def test_list_and_show_report_running_and_dead_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    metrics = {"train": {"loss": 0.25}, "test": {"accuracy": 0.75}}
    make(tmp_path, "animals/one", "succeeded", metrics=metrics, progress={"step": 1200, "steps": 1200})
    make(tmp_path, "animals/two", "running", pid=4711)
    assert main(["runs", "list", f"--outputs={tmp_path}"]) == 0
    output = capsys.readouterr().out
    assert "1,200/1,200" in output
    assert "0.750" in output
    assert "job.lost" in output  # no process is working on it
    assert "running" not in output
    assert main(["runs", "show", "one", f"--outputs={tmp_path}"]) == 0
    assert "accuracy 0.75" in capsys.readouterr().out


def test_objectives_are_a_column_and_preferences_have_their_accuracy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    make(tmp_path, "pairs/one", "succeeded", objective="sft", metrics={"test": {"loss": 0.25}})
    assert main(["runs", "list", f"--outputs={tmp_path}"]) == 0
    assert "objective" not in capsys.readouterr().out
    metrics = {"train": {"loss": 0.5, "margin": 1.5}, "test": {"loss": 0.4, "preference_accuracy": 0.875}}
    make(tmp_path, "pairs/two", "succeeded", objective="dpo", metrics=metrics)
    assert main(["runs", "list", f"--outputs={tmp_path}"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert "objective" in first
    by_run = {line.split()[0]: line.split() for line in lines}
    assert by_run["pairs/one"] == ["pairs/one", "succeeded", "sft", "0.250"]
    assert by_run["pairs/two"] == ["pairs/two", "succeeded", "dpo", "0.500", "0.875"]
    assert main(["runs", "show", "two", f"--outputs={tmp_path}"]) == 0
    output = capsys.readouterr().out
    for text in ("objective  dpo", "margin 1.5", "preference_accuracy 0.875"):
        assert text in output


def test_the_folder_may_be_named_before_and_after_the_action(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, "animals/r1", "succeeded")
    output = []
    for words in (["--outputs", str(tmp_path)], ["list", "--outputs", str(tmp_path)]):
        assert main(["runs", *words]) == 0
        output.append(capsys.readouterr().out)
    assert "r1" in output[0]
    assert output[0] == output[1]


def test_faults_are_reported_with_their_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, "animals/one", "succeeded")
    for words in (["show", "onne"], ["resume", "one"], ["sotp", "one"], ["show"], ["stop", "one", "--grace=soon"]):
        assert main(["runs", *words, *([f"--outputs={tmp_path}"] if words != ["sotp", "one"] else [])]) == 2, words
        assert "fix:" in capsys.readouterr().err
    assert main(["runs", "list", f"--outputs={tmp_path / 'nowhere'}"]) == 0
    assert main(["runs", "--help"]) == 0
    assert main(["runs", "logs", "one", f"--outputs={tmp_path}"]) == 1


def test_a_run_directory_does_not_vouch_for_its_own_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither by keys that widen what may run, nor by words that are flags of the command."""
    overrides = ["allow_targets=[os.]", "+callbacks.x={_target_: os.system}", "--config-dir=/tmp", "++hydra.x=1"]
    job = {"overrides": overrides, "cwd": str(tmp_path)}
    path = make(tmp_path, "animals/one", "paused", job=job)
    assert main(["runs", "resume", str(path)]) == 2
    output = capsys.readouterr().err
    for key in ("allow_targets", "--config-dir", "hydra.x"):
        assert f"its overrides contain {key}," in output
    assert read_status(path).state == "paused"
    assert not (path / ".worker").exists()


def test_the_folder_of_a_run_directory_is_not_trusted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files could be taken for modules of the training."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "yaml.py").write_text("print('taken over')")
    path = make(tmp_path, "animals/one", "paused", job={"overrides": [], "cwd": str(folder)})
    assert main(["runs", "resume", str(path)]) == 2
    assert f"its configuration is composed in {folder}" in capsys.readouterr().err
    training = command(Job(overrides=["--help"], cwd="."))
    done = subprocess.run(training, cwd=folder, capture_output=True, text=True, timeout=600)
    assert "taken over" not in done.stdout
    monkeypatch.chdir(folder)
    monkeypatch.setattr("kamerton.jobs.control.start_worker", lambda *arguments: arguments[0].release())
    assert main(["runs", "resume", str(path)]) == 0


def test_a_damaged_record_does_not_hide_the_other_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, "animals/one", "succeeded")
    (make(tmp_path, "animals/two", "succeeded") / "run.json").write_text("{")
    assert main(["runs", "list", f"--outputs={tmp_path}"]) == 0
    output = capsys.readouterr().out
    assert "succeeded" in output
    assert "unreadable" in output


def test_stopping_a_finished_run_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make(tmp_path, "animals/one", "succeeded")
    assert main(["runs", "stop", "one", f"--outputs={tmp_path}"]) == 1
    assert "animals/one succeeded" in capsys.readouterr().out
    assert main(["runs", "stop", str(make(tmp_path, "animals/two", "paused"))]) == 0
    assert read_status(path).state == "succeeded"


@pytest.mark.parametrize("part", [{"trial": {"number": 1}}, {"fold": 0}])
def test_a_fold_or_trial_is_not_stopped_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], part: dict[str, object]
) -> None:
    """Its sweep or cross-validation would take that for a failure."""
    path = make(tmp_path, "animals/one", "running", **part)
    for action in ("stop", "pause"):
        assert main(["runs", action, str(path)]) == 2
        assert "is part of a" in capsys.readouterr().err
    assert record(path)["state"] == "running"
    assert main(["runs", "stop", str(make(tmp_path, "animals/two", "succeeded", **part))]) == 1


@pytest.mark.slow
def test_a_run_paused_in_a_shell_resumes_as_a_job(
    tmp_path: Path, animals: Path, capfd: pytest.CaptureFixture[str], warm: Starter, warm_jobs: None
) -> None:
    """`kamerton train` in one terminal, `kamerton runs` in another."""
    outputs = f"--outputs={tmp_path / 'outputs'}"
    typed = [*TRAIN, f"data.path={animals}", f"paths.outputs={tmp_path / 'outputs'}", "run_id=shell", "batch.size=2"]
    typed += ["trainer.max_epochs=20", "trainer.max_steps=400", "eval.every=20"]
    run = tmp_path / "outputs" / "jsonl" / "shell"
    with open(os.devnull, "w") as output:
        process = warm("train", *typed, output=output)
    while process.wait(0.1) is None and not ((run / "run.json").exists() and (read_status(run).step or 0) > 3):
        pass
    assert main(["runs", "pause", "shell", outputs]) == 0
    assert process.wait() == 130
    assert record(run)["state"] == "paused"
    assert main(["runs", "resume", "shell", outputs]) == 0
    assert main(["runs", "watch", "shell", outputs]) == 0
    assert record(run)["progress"]["step"] == 400
    output = capfd.readouterr().out
    assert "jsonl/shell paused at step" in output
    assert "jsonl/shell succeeded at step 400 of 400" in output
    assert main(["runs", "logs", "shell", outputs]) == 0
    assert "(resumed)" in capfd.readouterr().out
