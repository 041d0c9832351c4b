"""All overrides are checked together; each fault has its origin and the nearest valid word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, ListConfig, OmegaConf

from kamerton.config.check import check_values, to_config, validate
from kamerton.config.compose import _chosen, compose_config, compose_values, conf_dir, config_loader, force, searching
from kamerton.config.faults import check_overrides
from kamerton.config.target_checks import check_targets
from kamerton.score.options import EvaluateOptions, check_evaluate

OPTIONS = {group.name: [file.stem for file in group.glob("*.yaml")] for group in conf_dir().iterdir() if group.is_dir()}


@pytest.mark.parametrize(
    ("group", "option"), [(group, option) for group, options in OPTIONS.items() for option in options]
)
def test_every_option_that_is_shipped_composes_and_is_valid(group: str, option: str) -> None:
    if option == "deepspeed":
        pytest.importorskip("deepspeed")
    needed = {"hub": ["model.name=x/y"], "jsonl": ["data.path=x"], "csv": ["data.path=x"], "parquet": ["data.path=x"]}
    needed["auto"] = ["data.path=x"]
    needed |= {"schedule_free": ["scheduler=constant"], "openai": ["model.name=x", "trainer.max_steps=-1"]}
    needed |= {"grpo": ["reward=exact_match"], "rloo": ["reward=exact_match"], "regex": ["reward.regex.pattern=a"]}
    needed |= {"grader": ["reward.grader.file=x"]}
    needed |= {"json_schema": ["reward.json_schema.schema={}"], "label": ["reward.label.labels=[yes,no]"]}
    if group == "engine":
        values = compose_values([f"engine={option}", "model=tiny"], "evaluate")
        assert validate(values, EvaluateOptions)[1] == check_evaluate(values) == []
        return
    values = compose_values([f"{group}={option}", *needed.get(option, [])])
    assert check_values(values) == []
    assert check_targets(values) == []
    assert to_config(values).name


VALUES = ("batch.size=8", "+optimizer.momentum=0.5", "~callbacks.lr_monitor", "model={name: x}")
TYPED = [
    [],
    ["model=tiny", "hydra/launcher=process", "hydra.launcher.gpus=2", "sweep=lr_batch", *VALUES],
    ["sweep=lora", "hydra.sweeper.n_trials=3", "data.path='a b'", "callbacks.early_stopping=null"],
    ["hydra.job.name=other", "~data"],
]


@pytest.mark.parametrize("typed", TYPED, ids=str)
def test_values_in_what_was_composed_before_are_as_hydra_composes_them(typed: list[str]) -> None:
    def described(node: Any) -> list[Any]:
        content = node._content if isinstance(node, DictConfig | ListConfig) else None
        children = list(content.values()) if isinstance(content, dict) else content if isinstance(content, list) else []
        return [dict(node._metadata.flags or {}), node._metadata.ref_type, *map(described, children)]

    overrides = force(typed)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        expected = compose("train", overrides=overrides, return_hydra_config=True)
    for _ in range(2):
        result = compose_config(overrides, with_hydra=True)
        assert OmegaConf.to_container(result) == OmegaConf.to_container(expected)
        assert described(result) == described(expected)
        result.batch.size, result.hydra.sweeper = 0, {}  # of this copy alone


def test_shipped_files_are_parsed_as_hydra_parses_them() -> None:
    source = next(source for source in config_loader().get_sources() if source.provider == "main")
    for group, options in OPTIONS.items():
        for option in options:
            result, plain = source.load_config(f"{group}/{option}"), conf_dir() / group / f"{option}.yaml"
            assert result.config == OmegaConf.load(plain)
            assert str(result.config) == str(OmegaConf.load(plain))
            assert result.header["package"] == ("_global_" if "@package _global_" in plain.read_text() else None)


def test_files_are_parsed_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    compose_config(["adapter=full"])
    compose_config(["model=tiny"])
    _chosen.cache_clear()
    monkeypatch.setattr("yaml.load", None)
    assert compose_config(["adapter=full", "model=tiny"]).model.name


def test_files_of_the_user_are_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "experiment" / "mine.yaml"
    file.parent.mkdir()
    for seed in (3, 4):
        file.write_text(f"# @package _global_\nseed: {seed}\n")
        assert compose_config(searching(str(tmp_path), ["experiment=mine"])).seed == seed
        assert check_overrides(["experiment=mine"], str(tmp_path)) == []
    file.write_text("# @package _global_\nseed: x\n")
    assert [fault.column for fault in check_overrides(["experiment=mine"], str(tmp_path))] == ["seed"]


def test_a_misspelt_key_of_one_of_several_sources() -> None:
    faults = check_overrides(["data=jsonl", "data.sources={mine: {pth: a.jsonl}}"])
    assert ("data.sources.mine.pth", "did you mean 'path'?") in {(fault.column, fault.fix) for fault in faults}


def test_all_faults_are_reported_together_with_the_nearest_valid_word() -> None:
    faults = check_overrides(
        ["optimizr.lr=3", "model=tinny", "data.pth=3", "adapter.r=zz", "split.ratios=[0.5,0.1,0.1]", "optimizer.lr=-1"]
    )
    result = {(fault.column, fault.fix) for fault in faults}
    assert ("optimizr", "did you mean 'optimizer'?") in result
    assert ("model", "did you mean 'tiny'?") in result
    assert ("data.pth", "did you mean 'path'?") in result
    assert {"adapter.r", "split.ratios", "optimizer.lr"} <= {fault.column for fault in faults}
    assert len(faults) == 6
    assert all(fault.file == "command line" for fault in faults)


def test_a_typo_in_an_experiment_file_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\noptimizer:\n  lr: -3\nbatch:\n  sizes: 4\nseed: three\n"
    )
    faults = check_overrides(["experiment=mine", "adapter.r=0"], str(tmp_path))
    origins = {fault.column: fault.file for fault in faults}
    assert origins == {
        "optimizer.lr": "experiment/mine.yaml",
        "batch.sizes": "experiment/mine.yaml",
        "seed": "experiment/mine.yaml",
        "adapter.r": "command line",
    }


def test_every_value_of_a_sweep_is_checked() -> None:
    faults = check_overrides(["optimizer.lr=1e-3,-2", "adapter=lora,flora", "batch.size=4,0"])
    assert {(fault.column, fault.message.split(" is ")[-1].split(":")[0]) for fault in faults} >= {
        ("batch.size", "0"),
    }
    assert {fault.column for fault in faults} == {"optimizer.lr", "adapter", "batch.size"}


def test_bad_syntax_is_a_fault_not_a_traceback() -> None:
    (fault,) = check_overrides(["optimizer.lr"])
    assert fault.code == "config.syntax"


@given(st.lists(st.text(alphabet="ab.=[]{},+~/:'\"$ \\é1-", max_size=12), max_size=3))
@settings(max_examples=25, deadline=None)
def test_whatever_is_typed_ends_in_a_fault_or_a_valid_configuration(overrides: list[str]) -> None:
    faults = check_overrides(overrides)
    if not faults:
        assert to_config(compose_values(overrides))


def test_keys_that_no_file_mentions_can_be_set() -> None:
    assert force(["data.columns.prompt=question", "adapter=full"]) == ["++data.columns.prompt=question", "adapter=full"]
    assert compose_values(["data.columns.prompt=question"])["data"]["columns"]["prompt"] == "question"


def test_callbacks_can_be_removed_changed_and_added() -> None:
    values = compose_values(
        [
            "callbacks.early_stopping=null",
            "~callbacks.lr_monitor",
            "callbacks.checkpoint_best.save_top_k=2",
            "+callbacks.timer={_target_: pytorch_lightning.callbacks.Timer, duration: '00:01:00:00'}",
        ]
    )
    assert values["callbacks"]["early_stopping"] is None
    assert "lr_monitor" not in values["callbacks"]
    assert check_targets(values) == []
