"""The command line's own words: help, versions, unknown commands, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hydra_plugins.kamerton import _jobs
from kamerton import __version__
from kamerton.assets import fetch
from kamerton.cli import main
from kamerton.errors import UserError


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == shown
    assert "kamerton train data.path=my.jsonl" in shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"kamerton {__version__}\n"


def test_an_unknown_command_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "did you mean 'train'?" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "prepare", "evaluate", "compare", "runs", "serve"])
def test_a_deleted_folder_is_a_fault(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert main([command]) == 2
    assert "the current folder no longer exists [folder.gone]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data=jsonl", "data.path=nowhere.jsonl"], "there is no such file"),
        (["data=jsonl"], "no data file is given"),
        (["data=csv", "data.path={here}/a.txt"], "csv"),
        (["data=jsonl", "data.path={here}/empty.jsonl"], "empty"),
        (["data=jsonl", "data.path={here}/a.jsonl", "data.columns.prompt=quesion"], "quesion"),
        (["model=hub", "model.name={here}/nowhere"], "there is no such folder"),
        (["model=hub"], "model.name"),
        (["callbacks.x={{_target_: os.system, command: 'true'}}"], "may not be used as a target"),
        (["split.ratios=[0.9,0.2,0.2]"], "sum to 1"),
        (["optimizer.lr=-1e-3"], "must be a positive number"),
        (["trainer.max_epochs=many"], "max_epochs"),
        (["modle=tiny", "model=tiny"], "did you mean 'model'?"),  # the default one may have to be downloaded
        (["callbacks.early_stoping.patience=3"], "did you mean 'early_stopping'?"),
        (["data.labels=3"], "data.labels is '3'"),
        (["adapter.targets=[nix]"], "the model has no layer 'nix'"),
        (["optimizer.betas=[2,3]"], "optimizer.betas"),
        (["trainer.gradient_clip_val=2"], "clip_norm"),
        (["batch.size=4,8"], "add -m"),
        (["paths.outputs={here}/a.txt"], "is not a folder"),
        (["paths.outputs={here}/a.txt/below"], "is not a folder"),
        (["--config-dir={here}/nowhere"], "there is no folder"),
        (["run_id=../../x"], "run_id is '../../x'"),
        (["trainer.fast_dev_run=true"], "debug=fast"),
        (["trainer.overfit_batches=2"], "debug=overfit"),
        (["name=..", "run_id=a/b"], "run_id is 'a/b'"),
    ],
)
def test_invalid_input_exits_with_2_and_the_reason(
    overrides: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("a,b\n")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "a.jsonl").write_text('{"question": "x", "answer": "y"}\n' * 3)
    typed = [text.format(here=tmp_path) for text in overrides]
    base = [] if any(text.startswith("model") for text in typed) else ["model=tiny"]
    data = [] if any(text.startswith("data") for text in typed) else ["data=jsonl", f"data.path={tmp_path}/a.jsonl"]
    outputs = [] if any(text.startswith("paths") for text in typed) else [f"paths.outputs={tmp_path}/outputs"]
    assert main(["train", *base, *data, *typed, *outputs]) == 2
    shown = capsys.readouterr().err
    assert expected in shown
    assert "fix: " in shown
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_shell_completion_installs(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-sc", f"install={shell}"]) == 0
    assert "complet" in capsys.readouterr().out


def test_shell_completion_answers_for_the_command_that_is_typed() -> None:
    line = "kamerton train optimizer.l"
    command = [sys.executable, "-m", "kamerton.cli", "-sc", "query=bash"]
    variables = {**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))}
    completions = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout
    assert "optimizer.lr=" in completions.split()


HOSTILE = "open('harm', 'w').close()\n"


def test_no_process_that_is_started_imports_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither a sweep's, nor the ranks and workers below one, nor pip."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("KAMERTON_CACHE", str(tmp_path / "cache"))
    for name in ("kamerton", "hydra_plugins", "hydra", "omegaconf", "yaml", "pip"):
        (tmp_path / f"{name}.py").write_text(HOSTILE)
    assert main(["train", "no-such-override"]) == 2
    subprocess.run([*_jobs.command[:-1], "version"], check=True)
    code = "import os, sys; sys.path.remove(''); from kamerton.cli import main; main()"
    code = f"{code}; print(os.environ['PYTHONSAFEPATH'])"
    subprocess.run([sys.executable, "-c", code, "version"], check=True)
    assert capfd.readouterr().out.endswith("\n1\n")
    with pytest.raises(UserError):
        fetch(f"pypi://not-there==1/x#sha256={'0' * 64}")
    assert not (tmp_path / "harm").exists()
