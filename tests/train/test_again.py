"""Printed resume commands: pasted in any folder, they compose the same configuration."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from kamerton.cli import main
from kamerton.config.compose import compose_config, force, plain, searching
from kamerton.config.faults import check_overrides
from kamerton.config.search import config_dir_of, split_search
from kamerton.config.secrets import redacted
from kamerton.errors import Interrupted
from kamerton.run.opening import claim_run, finished_run
from kamerton.shell import command_line, train_line

Values = dict[str, Any]


@pytest.fixture
def typed(tmp_path: Path, animals: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a command in a folder with custom files whose names need quotes."""
    home = tmp_path / "my home"
    file = home / "mine" / "experiment" / "short.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# @package _global_\ndefaults: [override /model: tiny]\nname: mine\n")
    monkeypatch.chdir(home)
    return ["--config-dir=mine", "experiment=short", "data=jsonl", f"data.path={animals}", "debug_note='its (odd) $x'"]


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that makes training stop as by Ctrl-C after opening its run."""

    def stop(name: str) -> None:
        def train(config: Any, *args: Any, **kwargs: Any) -> None:
            values = redacted(asdict(config), {})
            run = claim_run(values, Path(config.paths.outputs) / config.name)
            run.set_state("paused")
            run.release()
            raise Interrupted(run.run_id)

        monkeypatch.setattr(name, train)

    return stop


def lines_of(text: str) -> list[list[str]]:
    """Return the printed commands as a shell splits them."""
    return [shlex.split(line) for line in text.splitlines() if line.strip().startswith("kamerton ")]


def composed(words: list[str]) -> Values:
    """Return the composed values of a valid command line without a sweep."""
    search, overrides = split_search(words)
    folder = config_dir_of(search)
    rest = [*(text for text in search if not text.startswith("--")), *(text for text in overrides if text != "-m")]
    assert check_overrides(rest, folder) == []
    return plain(compose_config(searching(folder, force(rest, folder))))


@pytest.mark.parametrize(
    ("more", "function"),
    [((), "kamerton.pipeline.run.train"), (("cv.folds=3",), "kamerton.pipeline.cross_validation.cross_validate")],
)
def test_an_interrupted_run_resumes_from_any_folder(
    typed: list[str],
    interrupted: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    more: tuple[str, ...],
    function: str,
) -> None:
    interrupted(function)
    assert main(["train", *typed, *more]) == 130
    ((program, action, *words),) = lines_of(capsys.readouterr().err)
    assert (program, action) == ("kamerton", "train")
    before = composed([*typed, *more])
    outputs = Path("outputs").absolute()
    monkeypatch.chdir(tmp_path)
    after = composed(words)
    assert (outputs / "mine" / str(after["run_id"]) / "run.json").is_file()
    assert after["paths"]["outputs"] == str(outputs)
    assert {**after, "run_id": None, "paths": None} == {**before, "paths": None}


@pytest.mark.slow
def test_an_interrupted_grid_resumes_completely(
    typed: list[str],
    interrupted: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Finished points are not trained again, and the interrupted one is resumed."""
    interrupted("kamerton.pipeline.run.train")
    assert main(["train", "-m", *typed, "seed=1,2"]) == 130
    item, whole = lines_of(capsys.readouterr().err)
    assert "seed=1" in item
    assert {"-m", "seed=1,2", "resume=auto"} <= set(whole)
    home = Path("outputs/mine").absolute()
    (first,) = home.iterdir()
    monkeypatch.chdir(tmp_path)
    trained: list[str] = []

    def train(config: Any, *args: Any, **kwargs: Any) -> Any:
        run = claim_run(redacted(asdict(config), {}), home)
        trained.append(run.run_id)
        run.set_state("succeeded", metrics={"test": {"loss": 1.0}})
        run.release()
        return type("Result", (), {"metrics": run.values["metrics"], "path": run.path})

    monkeypatch.setattr("kamerton.pipeline.run.train", train)
    assert main(whole[1:]) == 0
    assert trained[0] == first.name
    assert len(trained) == 2
    assert main(whole[1:]) == 0
    assert len(trained) == 2
    assert capsys.readouterr().out.count("is finished already") == 2


@pytest.mark.slow
def test_an_interrupted_sweep_resumes_the_same_study(
    typed: list[str], interrupted: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its name follows from what was typed, so nothing is added."""
    interrupted("kamerton.sweep.job.run_trial")
    words = ["experiment=short", *typed[2:4], "sweep=lr_batch", "hydra.sweeper.n_trials=2"]
    assert main(["train", typed[0], *words]) == 130
    (line,) = lines_of(capsys.readouterr().err)
    assert line == ["kamerton", "train", f"--config-dir={Path('mine').absolute()}", *words]


def test_a_configuration_is_finished_by_its_newest_run(tmp_path: Path) -> None:
    values: Values = {"name": "n", "run_id": None, "resume": None, "paths": {"outputs": str(tmp_path)}, "seed": 1}
    assert finished_run(values) is None
    for state, expected in (("succeeded", True), ("failed", False), ("succeeded", True)):
        run = claim_run(values, tmp_path / "n")
        run.set_state(state)
        run.release()
        assert finished_run(values) == (run.path if expected else None)
    assert finished_run({**values, "run_id": "x"}) is None


def test_a_command_is_quoted_and_masked_and_includes_the_outputs_folder() -> None:
    line = train_line(["--config-dir=/a b"], ["seed=1", "paths.outputs=x", "hf_token=hf_abc"], "/o $x", "run_id=r1")
    words = shlex.split(line)
    assert words[:4] == ["kamerton", "train", "--config-dir=/a b", "seed=1"]
    assert words[-2:] == ["paths.outputs='/o $x'", "run_id=r1"]
    assert "hf_abc" not in line
    assert "paths.outputs=/o/x run_id" in train_line([], [], "/o/x", "run_id=r1")
    assert command_line("runs", "watch", Path("/a b/c")) == "kamerton runs watch '/a b/c'"
