"""Values from the environment are in no file and no output of a sweep."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from hydra_plugins.kamerton._config import params

Run = Callable[..., Any]
SECRET = "s3cr3t-va1ue"
APP = Path(__file__).parent / "app.py"
# The keys look innocent: none is masked for its name.
TYPED = (
    "x=interval(-2,2)",
    "+note=${oc.env:PWX}/notes",
    "+again=${note}",
    "+hydra.job.env_set.PW=${oc.env:PWX}",
    "+hydra.job.env_set.URL=db://me@host/${oc.env:PWX}",
    "+hydra.sweeper.params.word=[${oc.env:PWX}]",
    "+hydra.sweeper.params.gate=/nowhere/${oc.env:PWX}",
    "hydra.sweep.subdir=trials/${hydra.job.num}",
    "hydra.sweeper.n_trials=2",
    "hydra.job.chdir=false",
)


def holds(folder: Path) -> list[str]:
    """Return the files below `folder` that contain the secret, except those that the job itself wrote."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "log.jsonl")
    return [str(path) for path in files if SECRET.encode() in path.read_bytes()]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "process"])
def test_no_file_and_no_output_holds_a_value_from_the_environment(tmp_path: Path, launcher: str) -> None:
    words = [sys.executable, str(APP), "-m", "hydra/sweeper=optuna", f"hydra/launcher={launcher}", *TYPED]
    chatty = ["hydra/job_logging=default", "hydra/hydra_logging=default"]
    environment = {"PWX": SECRET, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*words, *chatty], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert holds(tmp_path) == []
    for number in range(2):
        folder = tmp_path / f"sweep/trials/{number}"
        hydra = yaml.safe_load((folder / ".hydra/hydra.yaml").read_text())["hydra"]
        assert hydra["job"]["env_set"]["PW"] == "${oc.env:PWX}"
        assert "+hydra.job.env_set.PW=${oc.env:PWX}" in hydra["overrides"]["hydra"]
        assert f'"word": "{SECRET}"' in (folder / "log.jsonl").read_text()  # the job has the value


def test_a_storage_from_the_environment_is_named(sweep: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY", f"sqlite:///{tmp_path}/{SECRET}.db")
    end = sweep("x=1,2", "hydra.sweeper.storage=${oc.env:STUDY}", "hydra.sweeper.n_trials=2")
    assert end.outcomes == {"complete": 2}
    kept = (path for path in (tmp_path / "sweep").rglob("*.yaml"))
    assert [str(path) for path in kept if SECRET in path.read_text()] == []


def test_the_space_is_resolved_but_for_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOW", "0.1")
    space = {
        "lr": "interval(${oc.env:LOW},${high})",
        "batch": "${sizes}",
        "word": "choice(${oc.env:PWX},b)",
        "plain": "${oc.env:NOT_THERE,none}",
        "nested": {"key": "${oc.env:PWX}"},
        "left_out": None,
    }
    config = OmegaConf.create({"high": 1.0, "sizes": [8, 16], "hydra": {"sweeper": {"params": space}}})
    monkeypatch.setenv("PWX", SECRET)
    assert params(config) == {
        "lr": "interval(0.1,1.0)",
        "batch": [8, 16],
        "word": "choice(${oc.env:PWX},b)",
        "plain": "${oc.env:NOT_THERE,none}",
        "nested": {"key": "${oc.env:PWX}"},
        "left_out": None,
    }
