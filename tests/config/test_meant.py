"""Words of other tools are answered with the key that they mean."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from kamerton.config.check import leaves
from kamerton.config.compose import compose_values, config_loader
from kamerton.config.faults import check_overrides
from kamerton.config.meant import _KEYS
from kamerton.config.target_checks import check_targets
from kamerton.shell import setting


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("epochs=2", "trainer.max_epochs=2"),
        ("+num_train_epochs=2", "trainer.max_epochs=2"),
        ("lr=1e-3", "optimizer.lr=0.001"),
        ("learning_rate=0.001", "optimizer.lr=0.001"),
        ("batch_size=4", "batch.size=4"),
        ("max_seq_length=2048", "data.max_length=2048"),
        ("train_file=my.jsonl", "data.path=my.jsonl"),
        ("warmup_steps=3", "scheduler.warmup_steps=3"),
        ("lr_scheduler_type=cosine", "scheduler=cosine"),
        ("model=Qwen/Qwen3-0.6B", "model=hub model.name=Qwen/Qwen3-0.6B"),
        ("model=gpt-3.5-turbo", "model=openai model.name=gpt-3.5-turbo"),
        ("data=rows.csv", "data.path=rows.csv"),
        ("data=a/b.jsonl", "data.path=a/b.jsonl"),
    ],
)
def test_a_word_of_another_tool_gets_the_key_that_it_means(typed: str, written: str) -> None:
    (fault,) = check_overrides([typed])
    assert fault.fix == f"write {written}"
    assert [fault for fault in check_overrides(shlex.split(written)) if fault.code.startswith("config.")] == []


@pytest.mark.parametrize(
    ("typed", "last"),
    [("+batch.batch_size=4", "size"), ("adapter.rank=8", "r")],
)
def test_a_word_of_another_tool_inside_a_section_gets_the_key_there(typed: str, last: str) -> None:
    (fault,) = check_overrides([typed])
    assert fault.fix == f"did you mean '{last}'?"


def test_a_word_of_another_tool_gets_the_argument_of_a_class() -> None:
    node = {"_target_": "torch.optim.AdamW", "learning_rate": 1e-3}
    (fault,) = check_targets({"optimizer": node})
    assert (fault.column, fault.fix) == ("optimizer.learning_rate", "did you mean 'lr'?")


def test_every_suggested_key_exists() -> None:
    keys = {key for key, _ in leaves(compose_values([]))}
    groups = set(config_loader().list_groups(""))
    lists = {key.rpartition(".")[0] for key in keys}
    assert set(_KEYS) - keys - lists - groups == set()


def test_a_folder_of_a_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    (fault,) = check_overrides(["model=mine"])
    assert fault.fix == "write model=hub model.name=mine"


@given(st.one_of(st.text(st.characters(codec="utf-8", exclude_categories=["C"])), st.integers(), st.booleans()))
def test_what_is_pasted_into_a_shell_is_the_value(value: object) -> None:
    (word,) = shlex.split(setting("data.path", value))
    read = OverridesParser.create().parse_override(word).value()
    read = getattr(read, "text", read)
    assert read == value
    assert re.match("data.path=", word)
