"""A run is resumed as a job with everything its composition needs, or reports immediately why it cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kamerton.cli import main
from kamerton.config.search import config_dir_of, search_words, split_search
from kamerton.errors import UserError
from kamerton.jobs.config import FineTuningConfig, compose_job, to_overrides
from kamerton.jobs.control import resume
from kamerton.jobs.store import read_status
from kamerton.jobs.worker import command, first_fault
from kamerton.run.changes import differences
from kamerton.run.opening import claim_run
from kamerton.run.record import Job

Begin = Callable[..., Path]


@pytest.fixture
def begin(tmp_path: Path, animals: Path, monkeypatch: pytest.MonkeyPatch) -> Begin:
    """Makes the directory of a paused run with an experiment of the folder `mine`, as `kamerton train` leaves it."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine" / "experiment" / "short.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# @package _global_\nname: mine\nbatch: {size: 4}\n")

    def make(config_dir: str | None = "mine", typed: tuple[str, ...] = ()) -> Path:
        overrides = [*typed, "experiment=short", "model=tiny", "data=jsonl", f"data.path={animals}"]
        values = compose_job([*overrides, f"paths.outputs={tmp_path / 'outputs'}"], config_dir)
        run = claim_run(values, tmp_path / "outputs" / "mine")
        words = [*search_words(config_dir, overrides), *(text for text in overrides if text not in typed)]
        (run.path / "overrides.yaml").write_text(yaml.safe_dump(words))
        run.set_state("paused", cwd=str(tmp_path))
        run.release()
        return run.path

    return make


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of the jobs that would have been started."""
    commands: list[list[str]] = []

    def start(run: Any, overrides: list[str], cwd: str, limit: int | None, search: list[str]) -> None:
        commands.append(command(Job(overrides=list(overrides), search=list(search), cwd="."))[3:])
        run.release()

    monkeypatch.setattr("kamerton.jobs.control.start_worker", start)
    return commands


@pytest.mark.slow
@pytest.mark.parametrize("way", [("mine", ()), (None, ("hydra.searchpath=[file://mine]",))])
@pytest.mark.parametrize("folder", [".", "elsewhere"])
def test_a_run_with_custom_files_resumes_from_every_folder(
    begin: Begin,
    started: list[list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    way: tuple[str | None, tuple[str, ...]],
    folder: str,
) -> None:
    """The command of the job composes the run's config.yaml."""
    path = begin(*way)
    (tmp_path / folder).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / folder)
    assert main(["runs", "resume", path.name, "--outputs", str(tmp_path / "outputs")]) == 0
    assert f"kamerton runs watch {path}" in capsys.readouterr().out
    (words,) = started
    capsys.readouterr()
    search, overrides = split_search(words[2:])
    places = [text for text in search if not text.startswith("--")]
    composed = compose_job([*places, *overrides], config_dir_of(search), deep=False)
    assert differences(yaml.safe_load((path / "config.yaml").read_text()), composed) == []
    assert composed["run_id"] == path.name


def test_obstacles_to_resuming_are_reported_together(
    begin: Begin, started: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = begin()
    file = tmp_path / "mine" / "experiment" / "short.yaml"
    text = file.read_text()
    for change, code in (
        (lambda: file.write_text(text.replace("size: 4", "size: 8")), "run.changed"),
        (lambda: file.write_text(text.replace("size", "siez")), "config.key"),
        (file.unlink, "config.option"),
        (lambda: (tmp_path / "mine").rename(tmp_path / "away"), "job.config-dir"),
    ):
        change()
        assert main(["runs", "resume", str(path)]) == 2
        assert f"[{code}]" in capsys.readouterr().err
        assert read_status(path).state == "paused"
    assert started == []


def test_missing_files_name_the_folder_the_run_was_started_in(
    begin: Begin, started: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = begin()
    words = yaml.safe_load((path / "overrides.yaml").read_text())
    relative = [text if not text.startswith("data.path=") else "data.path=animals.jsonl" for text in words]
    (path / "overrides.yaml").write_text(yaml.safe_dump(relative))
    config = yaml.safe_load((path / "config.yaml").read_text())
    config["data"]["path"] = "animals.jsonl"
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with pytest.raises(UserError) as error:
        resume(path)
    assert error.value.faults[-1].code == "job.folder"
    assert str(tmp_path) in error.value.faults[-1].message
    resume(path, trust=True)
    assert len(started) == 1


def test_a_foreign_run_may_only_name_folders(
    begin: Begin, started: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Search paths in its files do not bypass what must be typed."""
    path = begin()
    record = json.loads((path / "run.json").read_text())
    words = yaml.safe_load((path / "overrides.yaml").read_text())
    for search, key in (
        (["hydra.searchpath=[pkg://evil]"], "hydra.searchpath"),
        (["hydra.launcher=evil"], "hydra.launcher"),
        (["--config-name=evil"], "--config-name"),
        (["allow_targets=[os.]"], "allow_targets"),
    ):
        job = {"overrides": words[1:], "search": [*words[:1], *search], "cwd": str(tmp_path)}
        (path / "run.json").write_text(json.dumps({**record, "job": job}))
        assert main(["runs", "resume", str(path)]) == 2
        assert "[job.trust]" in (output := capsys.readouterr().err)
        assert key in output
    assert started == []


def test_a_job_in_python_has_a_folder_of_its_own_files(begin: Begin, tmp_path: Path) -> None:
    """`config_dir` is searched for its overrides and for its model."""
    begin()
    (tmp_path / "mine" / "model").mkdir()
    (tmp_path / "mine" / "model" / "small.yaml").write_text("name: tiny\n")
    config = FineTuningConfig(model="small", overrides=["experiment=short", "data=trec"], config_dir=tmp_path / "mine")
    overrides = to_overrides(config)
    assert "model=small" in overrides
    assert compose_job(overrides, config.folder, deep=False)["name"] == "mine"


def test_a_record_names_the_first_fault_of_the_last_try(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("error: an older try [x]\n")
    start = log.stat().st_size
    assert first_fault(log, start) == ""
    with log.open("a") as file:
        file.write("data 12 rows\nerror: the cause [a]\n    fix: mend it\nerror: a consequence [b]\n\n2 errors\n")
    assert first_fault(log, start) == "the cause [a]"
