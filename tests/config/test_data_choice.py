"""Data files on the command line replace the default data set, unless something chooses another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from kamerton.config.compose import compose_values, config_loader
from kamerton.config.data_choice import with_data_choice
from kamerton.config.faults import check_overrides


@pytest.mark.parametrize(
    "typed",
    ["data.path=a.json", "++data.train=[a.csv]", "data.sources={a: {path: a.csv}}", "data.sources.a.path=a.csv"],
)
def test_a_file_on_the_command_line_has_none_of_the_settings_of_the_default_data_set(typed: str) -> None:
    values = compose_values([typed, "batch.size=4"])
    assert (values["data"]["format"], values["data"]["name"], values["data"]["encoding"]) == ("auto", "data", "auto")
    assert (values["trainer"]["max_steps"], values["split"]["stratify"], values["eval"]["strategy"]) == (
        -1,
        None,
        "epoch",
    )
    assert values["batch"]["size"] == 4
    assert "pypi:" not in str(values["data"])


@pytest.mark.parametrize("typed", [[], ["data.max_length=100"], ["data.path=null"], ["seed=3"]])
def test_without_a_file_the_default_data_set_stays(typed: list[str]) -> None:
    assert compose_values(typed)["data"]["format"] == "trec"


def test_a_choice_on_the_command_line_or_of_an_experiment_stays(tmp_path: Path) -> None:
    assert compose_values(["data=csv", "data.path=a.json"])["data"]["format"] == "csv"
    (tmp_path / "experiment").mkdir()
    header = "# @package _global_\n"
    (tmp_path / "experiment" / "tables.yaml").write_text(f"{header}defaults:\n  - override /data: csv\nname: tables\n")
    (tmp_path / "experiment" / "slow.yaml").write_text(f"{header}optimizer:\n  lr: 1.0e-5\n")
    loader = config_loader(str(tmp_path))
    tables, slow = ["experiment=tables", "data.path=a"], ["experiment=slow", "data.path=a"]
    assert with_data_choice(tables, loader) == tables
    assert with_data_choice(slow, loader) == ["data=auto", *slow]
    sweep = ["experiment=slow,tables", "data.path=a,b"]
    assert with_data_choice(sweep, loader) == ["data=auto", *sweep]
    assert not [fault for fault in check_overrides(slow, str(tmp_path)) if fault.severity == "error"]


def test_another_command_is_left_alone() -> None:
    assert with_data_choice(["data.test=a.json"], config_loader(), "evaluate") == ["data.test=a.json"]


def test_a_data_set_of_the_hub_is_named_alone() -> None:
    values = compose_values(["data=hub", "data.name=org/set", "data.split=[train_sft,test_sft]"])
    assert values["data"]["path"] == "hf://datasets/org/set"
    assert values["data"]["split"] == ["train_sft", "test_sft"]
    assert values["name"] == "hub"  # a folder: data.name has a slash
