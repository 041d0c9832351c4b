"""An experiment file from a stranger runs no code: only what is typed can allow that."""

from __future__ import annotations

from pathlib import Path

import pytest

from kamerton.cli import main
from kamerton.config.faults import check_overrides
from kamerton.config.judging import untyped_faults

HARM = "_target_: os.system\n      command: touch {harm}\n"
FILES = {
    "allow_targets": ("allow_targets: [os.]\ncallbacks:\n  x:\n    _target_: os.system\n", "allow_targets"),
    "remote code": ("model:\n  trust_remote_code: true\n", "model.trust_remote_code"),
    "callback": (f"hydra:\n  callbacks:\n    x:\n      {HARM}", "hydra.callbacks.x._target_"),
    "sweeper": ("hydra:\n  sweeper:\n    _target_: os.system\n", "hydra.sweeper._target_"),
    "handler": (
        "hydra:\n  job_logging:\n    handlers:\n      x:\n        (): os.system\n        command: touch {harm}\n",
        "hydra.job_logging.handlers.x.()",
    ),
    "hidden": (
        "hydra:\n  job_logging:\n    formatters:\n      x:\n        class: logging.os.system\n",
        "hydra.job_logging.formatters.x.class",
    ),
    "import": (
        "hydra:\n  hydra_logging:\n    handlers:\n      x:\n        stream: ext://antigravity\n",
        "hydra.hydra_logging.handlers.x.stream",
    ),
    "sampler": (
        "defaults:\n  - override /hydra/sweeper: optuna\nhydra:\n  sweeper:\n    sampler:\n"
        "      _target_: optuna.samplers._cmaes.pickle.loads\n",
        "hydra.sweeper.sampler._target_",
    ),
    "wrapped pruner": (
        "defaults:\n  - override /hydra/sweeper: optuna\n  - override /hydra/sweeper/pruner: patient\n"
        "hydra:\n  sweeper:\n    pruner:\n      wrapped_pruner:\n        _target_: os.system\n",
        "hydra.sweeper.pruner.wrapped_pruner._target_",
    ),
    "search space": (
        "defaults:\n  - override /hydra/sweeper: optuna\nhydra:\n  sweeper:\n    custom_search_space: os.system\n",
        "hydra.sweeper.custom_search_space",
    ),
    "pickled study": (
        "defaults:\n  - override /hydra/sweeper: optuna\n  - override /hydra/sweeper/sampler: cmaes\n"
        "hydra:\n  sweeper:\n    storage: sqlite:///theirs.db\n",
        "hydra.sweeper.storage",
    ),
    "environment": ("hydra:\n  job:\n    env_set:\n      PATH: /evil\n", "hydra.job.env_set.PATH"),
}


COMMAND = ["train", "data=jsonl", "model=tiny", "experiment=evil", "--config-dir"]


def write(kind: str, folder: Path) -> str:
    """Write the experiment `evil` of a kind below a folder; return the key that gives it away."""
    text, column = FILES[kind]
    (folder / "experiment").mkdir()
    text = text.replace("{harm}", str(folder / "harm"))
    (folder / "experiment" / "evil.yaml").write_text("# @package _global_\n" + text)
    return column


@pytest.mark.parametrize("kind", FILES)
def test_a_file_cannot_run_code(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    column = write(kind, tmp_path)
    looked: list[object] = []
    faults = check_overrides(["experiment=evil"], str(tmp_path), lambda values, _: looked.append(values) or [])  # type: ignore[func-returns-value]
    assert looked == []  # a deeper look imports what is named
    assert [(fault.column, fault.file) for fault in faults] == [(column, "experiment/evil.yaml")]
    assert main([*COMMAND, str(tmp_path)]) == 2
    assert column in capsys.readouterr().err
    assert not (tmp_path / "harm").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["handler", "hidden", "import"])
@pytest.mark.parametrize("flags", [["--help"], ["--cfg", "job"], ["-m"]], ids=" ".join)
def test_no_flag_lets_a_file_run_code(
    kind: str, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hydra configures logging even if nothing runs."""
    column = write(kind, tmp_path)
    assert main([*COMMAND, str(tmp_path), *flags]) == 2
    assert column in capsys.readouterr().err
    assert not (tmp_path / "harm").exists()


def test_typed_settings_are_trusted() -> None:
    assert check_overrides(["allow_targets=[my_package.]", "model.trust_remote_code=true"]) == []
    assert check_overrides(["+hydra.callbacks.x._target_=my_package.Callback", "allow_targets=[my_package.]"]) == []
    assert check_overrides(["+hydra.job.env_set.OMP_NUM_THREADS=1"]) == []
    assert check_overrides(["hydra/sweeper=optuna", "hydra/sweeper/pruner=patient"]) == []
    assert check_overrides(["hydra/sweeper=optuna", "hydra.sweeper.custom_search_space=mine.space"]) == []
    (fault,) = check_overrides(["+hydra.callbacks.x._target_=my_package.Callback"])
    assert fault.code == "config.target"


def test_typed_addresses_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN", "x")
    own = ["model=openai", "model.name=m", "model.base_url=https://mine.example/v1", "model.key=OWN"]
    assert check_overrides([*own, "data.path=x.jsonl", "data=jsonl"]) == []
    mlflow = "'+logger.m={_target_: pytorch_lightning.loggers.MLFlowLogger, tracking_uri: https://mine.example}'"
    assert check_overrides([mlflow.strip("'"), "logger.wandb.mode=online", "+logger.wandb.entity=${oc.env:OWN}"]) == []
    nested = ["model=openai", "model={name: m, base_url: https://mine.example/v1, key: OWN}", "data=jsonl"]
    assert check_overrides([*nested, "data.path=x.jsonl"]) == []


def test_a_variable_that_was_typed_may_reach_what_a_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM", "a")
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "own.yaml").write_text("# @package _global_\nlogger:\n  wandb:\n    tags: ['${name}']\n")
    assert check_overrides(["experiment=own", "name=${oc.env:TEAM}"], str(tmp_path)) == []


EVIL = "https://evil.example/v1"


@pytest.mark.parametrize(
    ("overrides", "column"),
    [
        (["model=openai", f"model={{name: m, base_url: '{EVIL}'}}"], "model.base_url"),
        (["model=openai", "model.name=m", "++model.key=SECRET"], "model.key"),
        (["model=openai", "model.name=m", "model={key: '${debug_note}'}", "debug_note=SECRET"], "model.key"),
        (["model={trust_remote_code: true}"], "model.trust_remote_code"),
        (["+allow_targets=[os.]"], "allow_targets"),
        (["logger.wandb={settings: {base_url: 'https://evil.example'}}"], "logger.wandb.settings"),
        (["+trainer@hydra.callbacks.x=default"], "hydra.callbacks.x._target_"),
        (["hydra={job: {name: ../evil}}"], "hydra.job.name"),
    ],
)
def test_a_run_directory_vouches_for_nothing(overrides: list[str], column: str) -> None:
    assert column in [fault.column for fault in untyped_faults([*overrides, "data=jsonl", "data.path=x.jsonl"])]


def test_ordinary_overrides_of_a_run_need_no_trust() -> None:
    own = ["model=openai", "model.name=m", "model.base_url=http://localhost:8000/v1", "model.price.input=1"]
    assert untyped_faults([*own, "data=jsonl", "data.path=x.jsonl", "logger.wandb.mode=online"]) == []
