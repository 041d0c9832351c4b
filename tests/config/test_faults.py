"""Invalid input of every kind gives faults with the key, its location and a fix; never an exception."""

from __future__ import annotations

from pathlib import Path

import pytest

from kamerton.config.compose import compose_values
from kamerton.config.faults import check_overrides
from kamerton.config.rewards import reward_nodes
from kamerton.errors import Fault

HEAD = "# @package _global_\n"


@pytest.fixture
def experiment(tmp_path: Path):
    """Write experiment/mine.yaml and return the faults of choosing it."""

    def faults(text: str, *overrides: str) -> list[Fault]:
        (tmp_path / "experiment").mkdir(exist_ok=True)
        (tmp_path / "experiment" / "mine.yaml").write_text(text)
        return check_overrides(["experiment=mine", *overrides], str(tmp_path))

    return faults


@pytest.mark.parametrize(
    ("override", "column", "fix"),
    [
        ("callbacks.early_stoping.patience=3", "callbacks.early_stoping", "did you mean 'early_stopping'?"),
        ("callbacks.early_stoping=null", "callbacks.early_stoping", "did you mean 'early_stopping'?"),
        ("logger.wandbb=null", "logger.wandbb", "did you mean 'wandb'?"),
        ("metrics.mine=null", "metrics.mine", "valid here: nothing"),
        ("logger.wandbb.mode=offline", "logger.wandbb", "did you mean 'wandb'?"),
        ("logger.csv=null", "logger.csv", "leave logger.csv"),
        ("callbacks.early_stopping=3", "callbacks.early_stopping", "correct the value"),
        ("callbacks=3", "callbacks", "valid here: default"),
        ("optimizer._target_=null", "optimizer", "choose one of the options"),
        ("~trainer.max_epochs", "trainer.max_epochs", "correct the value"),
        ("model=hub", "model.name", "add model.name="),
        ("model=null", "model", "set model="),
        ("optimizer.lr=???", "optimizer.lr", "add optimizer.lr="),
        ("data.labels=3", "data.labels", "set data.labels"),
        ("seed=4294967296", "seed", "correct the value"),
        ("seed=true", "seed", "correct the value"),
        ("batch.size=true", "batch.size", "correct the value"),
        ("adapter.alpha=inf", "adapter.alpha", "correct the value"),
        ("adapter.targets={a: 1}", "adapter.targets", "correct the value"),
        ("++split=null", "split", "correct the value"),
        ("++split=3", "split", "correct the value"),
        ("batch.size=", "batch.size", "correct the value"),
        ("hydra/launcher=foo", "hydra/launcher", "valid here"),
    ],
)
def test_a_bad_value_is_one_fault_that_names_its_key(override: str, column: str, fix: str) -> None:
    (fault,) = check_overrides([override])
    assert (fault.column, fault.file is not None) == (column, True)
    assert fix in fault.fix


def test_what_a_file_has_can_be_removed(experiment) -> None:
    assert check_overrides(["callbacks.early_stopping=null", "logger.wandb=null"]) == []
    mine = f"{HEAD}callbacks:\n  mine: {{_target_: pytorch_lightning.callbacks.Timer}}\n  early_stopping: null\n"
    assert experiment(mine, "callbacks.mine=null") == []
    (fault,) = experiment(f"{HEAD}callbacks:\n  early_stoping: null\n")
    assert (fault.column, fault.file) == ("callbacks.early_stoping", "experiment/mine.yaml")


ODD = ["=", "+", "seed", "seed=(3)", "seed=${", "a b", "name=ż", "seed=${nix}", "seed.x=1"]


@pytest.mark.parametrize("override", ODD)
def test_odd_overrides_are_faults(override: str) -> None:
    assert check_overrides([override])


def test_every_invalid_override_is_reported() -> None:
    faults = check_overrides(["data.path=żaba.jsonl", "seed=(3)", "optimizr.lr=3"])
    assert [fault.code for fault in faults] == ["config.syntax", "config.syntax", "config.key"]
    assert faults[0].fix == """write 'data.path="żaba.jsonl"'"""


def test_several_values_need_a_sweep() -> None:
    (fault,) = check_overrides(["batch.size=4,8"], sweeps=False)
    assert fault.column == "batch.size"
    assert "-m" in fault.fix
    assert check_overrides(["batch.size=4,8"]) == []


@pytest.mark.parametrize("override", ["callbacks=null", "logger=null", "experiment=null", "debug=null"])
def test_a_group_that_may_be_empty_can_be_left_out(override: str) -> None:
    assert check_overrides([override]) == []


def test_a_missing_config_dir_is_a_fault(tmp_path: Path) -> None:
    (fault,) = check_overrides(["seed=1"], str(tmp_path / "nowhere"))
    assert fault.column == "--config-dir"


@pytest.mark.parametrize(
    ("text", "file", "column", "fix"),
    [
        (f"{HEAD}defaults:\n  - override /adapter: lorra\n", "experiment/mine.yaml", "adapter", "did you mean 'lora'?"),
        (f"{HEAD}defaults:\n  - override /adaptr: lora\n", "experiment/mine.yaml", None, "did you mean 'adapter'?"),
        (
            f"{HEAD}callbacks:\n  early_stoping:\n    patience: 3\n",
            "experiment/mine.yaml",
            "callbacks.early_stoping",
            "",
        ),
        (f"{HEAD}name: ${{name}}\n", "experiment/mine.yaml", "name", ""),
        (f"{HEAD}seed: [1\n", "experiment/mine.yaml", None, "correct that line"),
        (f"{HEAD}seed: 1\nseed: 2\n", "experiment/mine.yaml", None, "correct that line"),
        (f"{HEAD}seed: !!python/object/apply:os.getpid []\n", "experiment/mine.yaml", None, "correct that line"),
        (f"{HEAD}batch: 3\n", "experiment/mine.yaml", "batch", ""),
        (f"{HEAD}optimizer: [1]\n", "experiment/mine.yaml", None, ""),
        ("seed: 1\n", "experiment/mine.yaml", "experiment", "# @package _global_"),
        (f"{HEAD}defaults: 3\n", "experiment/mine.yaml", None, ""),
        ("3\n", "command line", None, ""),
    ],
)
def test_mistakes_in_an_experiment_name_the_file(experiment, text, file, column, fix) -> None:  # type: ignore[no-untyped-def]
    (fault,) = experiment(text)
    assert (fault.file, fault.column) == (file, column)
    assert fix in fault.fix


def test_the_file_of_a_chosen_option_is_not_blamed(experiment) -> None:  # type: ignore[no-untyped-def]
    (fault,) = check_overrides(["data=jsonl"])
    assert (fault.column, fault.file) == ("data.path", "command line")
    (fault,) = experiment(f"{HEAD}model:\n  dtype: int4\n", "model=tiny")
    assert fault.file == "experiment/mine.yaml"


SECOND = "reward.number_2._target_=kamerton.objective.rewards.number"


@pytest.mark.parametrize("typed", ["reward=[number,length,number]", "reward=[number,number],[number,length]"])
def test_a_reward_that_is_named_twice_is_a_fault_and_its_fix_gives_two(typed: str) -> None:
    grpo = ["objective=grpo", "data=jsonl", "data.path=rows.jsonl"]
    (fault,) = check_overrides([*grpo, typed])
    assert (fault.code, fault.file, fault.column) == ("config.option", "command line", "reward")
    assert "'number' 2 times" in fault.message
    assert fault.fix == f"name number once, and for a second one add {SECOND}"
    once = [*grpo, "reward=[number,length]", SECOND, "reward.number_2.tolerance=0.1"]
    assert check_overrides(once) == []
    assert list(reward_nodes(compose_values(once)["reward"])) == ["number", "length", "number_2"]


def test_an_option_that_a_file_names_twice_is_a_fault_of_the_file(experiment) -> None:  # type: ignore[no-untyped-def]
    rewards = "defaults:\n  - override /reward: [number, number]\n"
    (fault,) = experiment(f"{HEAD}{rewards}")
    assert (fault.file, fault.column) == ("experiment/mine.yaml", "reward")
    (fault,) = check_overrides(["callbacks=[default,default]"])
    assert fault.fix == "name default once"


@pytest.mark.parametrize("typed", ["reward=zzz", "reward=[zzz]", "reward=default,zzz"])
def test_no_reward_is_not_offered_as_one(typed: str) -> None:
    (fault,) = check_overrides([typed])
    assert fault.fix == "valid here: exact_match, grader, json_schema, label, length, number, regex"
