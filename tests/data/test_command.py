"""`kamerton prepare`: the data gate from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kamerton.cli import main


def test_prepare_reports_and_shows_without_training(
    animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["model=tiny", "data=jsonl", f"data.path={animals}", f"paths.outputs={tmp_path}/out"]
    assert main(["prepare", "--show", "2", *options]) == 0
    shown = capsys.readouterr().out
    assert shown.count("trained on") == 2
    (folder,) = (tmp_path / "out" / "jsonl").iterdir()
    report = json.loads((folder / "data_report.json").read_text())
    assert report["counts"]["rows read"] == 120
    assert {path.name for path in folder.iterdir()} >= {
        "data_report.html",
        "data_report.md",
        "faults.jsonl",
        "rejects.jsonl",
    }
    assert not list(tmp_path.glob("out/*/*/run.json"))


def test_prepare_lists_every_fault_and_exits_with_2(
    animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with animals.open("a") as file:
        file.write("not json\n" + json.dumps({"prompt": "", "completion": "yes"}) + "\n")
    options = ["model=tiny", "data=jsonl", f"data.path={animals}", f"paths.outputs={tmp_path}/out", "split.sed=1"]
    assert main(["prepare", *options]) == 2
    said = capsys.readouterr().err
    assert "animals.jsonl:121" in said
    assert "animals.jsonl:122:prompt" in said
    assert "did you mean 'seed'?" in said
    assert not (tmp_path / "out").exists()


def test_a_policy_drops_what_would_be_refused(animals: Path, tmp_path: Path) -> None:
    with animals.open("a") as file:
        file.write("not json\n")
    options = ["model=tiny", "data=jsonl", f"data.path={animals}", f"paths.outputs={tmp_path}/out"]
    assert main(["prepare", *options, "data.policy.bad-json=drop"]) == 0
    (rejects,) = tmp_path.glob("out/*/*/rejects.jsonl")
    (line,) = rejects.read_text().splitlines()
    assert "bad-json" in line
    assert json.loads(line)["row"] == 121
