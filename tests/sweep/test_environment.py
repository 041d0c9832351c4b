"""A sweep of runs: values from the environment are in no file and no output."""

from __future__ import annotations

from pathlib import Path

import pytest

from kamerton.cli import main
from support.runs import LEAN

SECRET = "s3cr3t-va1ue"
SMALL = (*LEAN, "trainer.max_steps=2", "scheduler.warmup_steps=1")


@pytest.mark.slow
def test_no_file_of_a_sweep_holds_a_value_from_the_environment(
    animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWX", SECRET)
    taken = ("debug_note=${oc.env:PWX}", "model.revision=${oc.env:PWX}", "+hydra.job.env_set.PW=${oc.env:PWX}")
    swept = ("+hydra.sweeper.params.debug_note=[${oc.env:PWX}]", "hydra.sweeper.study_name=s")
    space = ("sweep=default", "optimizer.lr=choice(0.001,0.01)", "hydra.sweeper.n_trials=1")
    assert main(["train", *SMALL, f"data.path={animals}", *space, *taken[1:], *swept]) == 0
    assert main(["train", "-m", *SMALL, f"data.path={animals}", "seed=1", *taken]) == 0
    shown = capfd.readouterr()
    assert SECRET not in shown.out + shown.err
    holding = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert holding == []
    assert "+hydra.job.env_set.PW=${oc.env:PWX}" in (tmp_path / "outputs/jsonl/s/multirun.yaml").read_text()
