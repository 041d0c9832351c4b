"""Data sets of the Hugging Face hub, against a server that speaks its protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

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


def fault_of(path: str) -> Fault:
    files, (fault,) = find_files(DataOptions(path=path))
    assert not files
    return fault


def test_a_data_set_keeps_its_splits_at_one_commit(serve: Callable[[str], None]) -> None:
    files = {"data/train-00000-of-00001.jsonl": ROWS, "data/test-00000-of-00001.jsonl": ROWS, "README.md": b"# A set"}
    with Hub({"org/set": {**files, "set.py": b"raise SystemExit('run')"}}) as hub:
        serve(hub.endpoint)
        found, faults = find_files(DataOptions(path=SET))
        again, _ = find_files(DataOptions(path=SET))
    assert faults == []
    assert {(file.split, file.name, file.version) for file in found} == {
        ("train", f"{SET}/data/train-00000-of-00001.jsonl", hub.commit),
        ("test", f"{SET}/data/test-00000-of-00001.jsonl", hub.commit),
    }
    assert found[0].path.read_bytes() == ROWS
    assert again == found
    assert hub.fetched == ["data/test-00000-of-00001.jsonl"]  # the other file has the same content


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
