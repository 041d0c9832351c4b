"""Data sets of the Hugging Face hub, against a server that speaks its protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

from kamerton.data.option_checks import check_data_options
from kamerton.data.options import DataOptions
from kamerton.data.read.sources import find_files
from kamerton.errors import Fault
from support.ports import free_port
from support.storage import Hub, jsonl

ROWS = jsonl(*({"prompt": f"question {number}", "completion": f"answer {number}"} for number in range(4)))
SET = "hf://datasets/org/set"


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a hub the one that HF_ENDPOINT names, with an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)

    def use(endpoint: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    return use


def fault_of(path: str, **options: object) -> Fault:
    files, (fault,) = find_files(DataOptions(path=path, **options))  # type: ignore[arg-type]
    assert not files
    return fault


def test_a_data_set_keeps_its_splits_at_one_commit(serve: Callable[[str], None]) -> None:
    files = {"data/train-00000-of-00001.jsonl": ROWS, "data/test-00000-of-00001.jsonl": ROWS, "README.md": b"# A set"}
    with Hub({"org/set": {**files, "set.py": b"raise SystemExit('run')"}}) as hub:
        serve(hub.endpoint)
        files, faults = find_files(DataOptions(path=SET))
        again, _ = find_files(DataOptions(path=SET))
    assert faults == []
    assert {(file.split, file.name, file.version) for file in files} == {
        ("train", f"{SET}/data/train-00000-of-00001.jsonl", hub.commit),
        ("test", f"{SET}/data/test-00000-of-00001.jsonl", hub.commit),
    }
    assert files[0].path.read_bytes() == ROWS
    assert again == files
    assert hub.fetched == ["README.md", "data/test-00000-of-00001.jsonl"]  # the other file has the same content


def test_files_patterns_and_folders_of_a_revision(serve: Callable[[str], None]) -> None:
    with Hub({"org/set": {"one/train.jsonl": ROWS, "two/train.jsonl": ROWS}}) as hub:
        serve(hub.endpoint)
        (file,), _ = find_files(DataOptions(path=f"{SET}@{hub.commit}/one/train.jsonl"))
        matches, _ = find_files(DataOptions(path=f"{SET}/*/train.jsonl"))
        folder, _ = find_files(DataOptions(path=f"{SET}/two"))
        several = fault_of(SET)
        missing, other = fault_of(f"{SET}/three"), fault_of("hf://datasets/org/other")
        revision = fault_of(f"{SET}@v2")
    assert file.name == f"{SET}@{hub.commit}/one/train.jsonl"
    assert [len(matches), [file.name for file in folder]] == [2, [f"{SET}/two/train.jsonl"]]
    assert f"data.path={SET}/one or data.path={SET}/two" in several.fix
    assert (missing.code, other.code, revision.code) == ("missing-file", "missing-file", "missing-file")


CARD = b"""---
configs:
- config_name: plain
  data_files:
  - split: train
    path: plain/*.jsonl
- config_name: chat
  data_files:
    train_sft: "chat/a-*.jsonl"
    test_sft: ["chat/b-*.jsonl"]
    train_gen: chat/c.jsonl
---
"""
DESCRIBED = {"README.md": CARD} | {
    name: jsonl({"prompt": name, "completion": "a"})
    for name in ("plain/1.jsonl", "chat/a-1.jsonl", "chat/b-1.jsonl", "chat/c.jsonl")
}


def chosen(**options: object) -> dict[str, str | None]:
    files, faults = find_files(DataOptions(path=SET, **options))  # type: ignore[arg-type]
    assert faults == []
    return {file.name.removeprefix(f"{SET}/"): file.split for file in files}


def test_the_card_names_the_files_of_configurations_and_splits(serve: Callable[[str], None]) -> None:
    with Hub({"org/set": DESCRIBED}) as hub:
        serve(hub.endpoint)
        assert chosen(config="plain") == {"plain/1.jsonl": None}
        assert chosen(config="chat", split="test_sft") == {"chat/b-1.jsonl": None}
        kept = chosen(config="chat", split=["train_sft", "test_sft"])
        assert kept == {"chat/a-1.jsonl": "train", "chat/b-1.jsonl": "test"}
        several = fault_of(SET)
        assert several.fix == "choose one of them: data.config=plain or data.config=chat"
        ambiguous = fault_of(SET, config="chat")
        assert "'data.split=[train_sft,test_sft]'" in ambiguous.fix
        assert "data.config=chat" in fault_of(SET, config="other").fix
        assert "data.split=train_gen" in fault_of(SET, config="chat", split="test").fix


def test_without_a_card_names_of_folders_and_files_choose(serve: Callable[[str], None]) -> None:
    names = ("one/train.jsonl", "one/test.jsonl", "two/train-00000-of-00001.jsonl", "two/other-00000-of-00001.jsonl")
    with Hub({"org/set": dict.fromkeys(names, ROWS)}) as hub:
        serve(hub.endpoint)
        assert chosen(config="one") == {"one/train.jsonl": "train", "one/test.jsonl": "test"}
        assert chosen(config="two", split="other") == {names[3]: None}
        assert "data.config=one or data.config=two" in fault_of(SET, config="three").fix


def test_the_default_configuration_is_read(serve: Callable[[str], None]) -> None:
    card = CARD.replace(b"- config_name: plain\n", b"- config_name: plain\n  default: true\n")
    with Hub({"org/set": {**DESCRIBED, "README.md": card}}) as hub:
        serve(hub.endpoint)
        assert chosen() == {"plain/1.jsonl": None}


def test_a_split_whose_files_are_missing_is_a_fault(serve: Callable[[str], None]) -> None:
    with Hub({"org/set": {"README.md": CARD}}) as hub:
        serve(hub.endpoint)
        assert "no file matches 'plain/*.jsonl'" in fault_of(SET, config="plain").message


def test_choices_without_a_data_set_of_the_hub_are_faults() -> None:
    (fault,) = check_data_options(DataOptions(path="rows.jsonl", config="plain"))
    assert (fault.code, fault.column) == ("bad-value", "data.config")
    assert check_data_options(DataOptions(path=SET, config="plain", split="train")) == []


def test_the_token_comes_from_the_environment(serve: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    with Hub({"org/set": {"train.jsonl": ROWS}}, token="hf_secret") as hub:
        serve(hub.endpoint)
        refused = fault_of(SET)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        (file,), _ = find_files(DataOptions(path=SET))
    assert (refused.code, "HF_TOKEN" in refused.fix) == ("no-permission", True)
    assert file.path.read_bytes() == ROWS


def test_a_hub_that_is_offline_or_unreachable(serve: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    serve(f"http://127.0.0.1:{free_port()}")
    assert fault_of(SET).code == "unreachable"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "unset HF_HUB_OFFLINE" in fault_of(SET).fix


def test_other_addresses_of_the_hub_show_the_form(serve: Callable[[str], None]) -> None:
    assert "hf://datasets/ORGANIZATION/NAME" in fault_of("hf://org/model").fix
