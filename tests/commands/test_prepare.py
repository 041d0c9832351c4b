"""`kamerton prepare`: the data gate from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kamerton.cli import main
from support.rows import question, write_jsonl


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


def test_a_prompt_without_completion_is_shown_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": question(number), "completion": "yes" if number < 6 else None} for number in range(40)]
    data = write_jsonl(tmp_path / "prompts.jsonl", rows)
    options = ["model=tiny", "data=jsonl", f"data.path={data}", f"paths.outputs={tmp_path}/out", "objective=grpo"]
    assert main(["prepare", "--show", "40", "--parity", "reward=length", "reward.length.most=3", *options]) == 0
    shown = capsys.readouterr().out
    assert shown.count("a prompt without completion") > shown.count(" in the reference") == shown.count("yes") > 0
    assert "trained on" not in shown
    (folder,) = (tmp_path / "out" / "jsonl").iterdir()
    assert json.loads((folder / "data_report.json").read_text())["counts"]["without completion"] == 34
    assert "40 of 40 trained turns" in shown


def test_prepare_has_help_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--help", "-h"):
        assert main(["prepare", flag]) == 0
        assert capsys.readouterr().out.startswith("kamerton prepare: ")


@pytest.mark.parametrize("flags", [["--show", "x"], ["--show"], ["--show=-1"], ["--show", "-1"]])
def test_a_number_of_examples_is_shown_by_the_fix(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", *flags]) == 2
    assert "give a number, such as --show 3; see kamerton prepare --help" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "setting"),
    [
        (["--data", "my.jsonl"], "data.path=FILE"),
        (["--data=my.jsonl"], "data.path=my.jsonl"),
        (["--model.name=a/b"], "model.name=a/b"),
    ],
)
def test_a_setting_with_dashes_is_answered_with_the_setting(
    flags: list[str], setting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", *flags]) == 2
    assert f"settings have no dashes: {setting}; " in capsys.readouterr().err


def test_prepare_lists_every_fault_writes_the_report_and_exits_with_2(
    animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with animals.open("a") as file:
        file.write("not json\n" + json.dumps({"prompt": "", "completion": "yes"}) + "\n")
    options = ["model=tiny", "data=jsonl", f"data.path={animals}", f"paths.outputs={tmp_path}/out", "split.sed=1"]
    assert main(["prepare", *options]) == 2
    output = capsys.readouterr().err
    assert "animals.jsonl:121" in output
    assert "animals.jsonl:122:prompt" in output
    assert "did you mean 'seed'?" in output
    (folder,) = (tmp_path / "out" / "jsonl").iterdir()
    assert {path.name for path in folder.iterdir()} == {f"data_report.{end}" for end in ("html", "md", "json")} | {
        "faults.jsonl",
        "rejects.jsonl",
    }
    assert all(str(folder / name) in output for name in ("data_report.html", "faults.jsonl", "rejects.jsonl"))
    report = json.loads((folder / "data_report.json").read_text())
    assert not report["valid"]
    assert report["counts"]["rows read"] == 122
    rejects = [json.loads(line) for line in (folder / "rejects.jsonl").read_text().splitlines()]
    assert [reject["row"] for reject in rejects] == [121, 122]
    assert "cannot be used as they are: 2 errors" in (folder / "data_report.html").read_text()


def test_a_missing_file_has_a_report_and_an_unusable_name_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["model=tiny", "data=jsonl", f"data.path={tmp_path}/no.jsonl", f"paths.outputs={tmp_path}/out"]
    assert main(["prepare", *options]) == 2
    assert "report" in capsys.readouterr().err
    assert len(list(tmp_path.glob("out/jsonl/*/data_report.html"))) == 1
    assert main(["prepare", *options, "name=../../elsewhere"]) == 2
    assert not list(tmp_path.parent.glob("elsewhere*"))


def test_a_missing_file_and_a_wrong_policy_are_reported_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["model=tiny", "data=jsonl", f"data.path={tmp_path}/no.jsonl", f"paths.outputs={tmp_path}/out"]
    assert main(["prepare", *options, "data.policy.bad_json=drop"]) == 2
    output = capsys.readouterr().err
    assert "bad_json" in output
    assert "[missing-file]" in output


def test_overlong_rows_of_all_splits_are_reported_together(
    animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["model=tiny", "data=jsonl", f"data.path={animals}", f"paths.outputs={tmp_path}/out"]
    assert main(["prepare", *options, "data.max_length=4"]) == 2
    output = capsys.readouterr().err
    (folder,) = (tmp_path / "out" / "jsonl").iterdir()
    assert output.count("[too-long]") == 1
    assert "120 of 120 rows have more tokens than data.max_length (4)" in output
    assert "120 of 120 rows" in (folder / "data_report.json").read_text()
    assert len((folder / "rejects.jsonl").read_text().splitlines()) == 120


def test_the_terminal_reports_dropped_fixed_and_truncated_rows(
    animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in animals.read_text().splitlines()]
    more = ["not json", json.dumps({"prompt": "a" * 3000, "completion": rows[0]["completion"]}), json.dumps(rows[0])]
    more.append(json.dumps({"prompt": " spaced ", "completion": rows[0]["completion"]}))
    with animals.open("a") as file:
        file.writelines(line + "\n" for line in more)
    options = ["model=tiny", "data=jsonl", f"data.path={animals}", f"paths.outputs={tmp_path}/out"]
    options += ["data.policy.bad-json=drop", "data.policy.outer-whitespace=fix"]
    assert main(["prepare", *options, "data.overlong=drop"]) == 0
    output = capsys.readouterr().out
    for reason in ("bad-json 1", "exact-duplicate 1", "too-long 1"):
        assert reason in output
    assert "fixed      1 row: outer-whitespace 1" in output
    assert "schema     pair (prompt, completion), 123 rows" in output
    assert "split      shares 0.7, 0.15, 0.15; seed 42; grouped by prompt" in output
    (folder,) = (tmp_path / "out" / "jsonl").iterdir()
    rejects = [json.loads(line) for line in (folder / "rejects.jsonl").read_text().splitlines()]
    assert sorted((reject["row"], reject["codes"][0]) for reject in rejects) == [
        (121, "bad-json"),
        (122, "too-long"),
        (123, "exact-duplicate"),
        (124, "outer-whitespace"),
    ]
    counts = json.loads((folder / "data_report.json").read_text())["counts"]
    assert counts["rows read"] == 124 == 3 + counts["train"] + counts["validation"] + counts["test"]
    assert main(["prepare", *options, "data.overlong=truncate"]) == 0
    assert "truncated  1 " in capsys.readouterr().out


def test_a_policy_drops_what_would_be_refused(animals: Path, tmp_path: Path) -> None:
    with animals.open("a") as file:
        file.write("not json\n")
    options = ["model=tiny", "data=jsonl", f"data.path={animals}", f"paths.outputs={tmp_path}/out"]
    assert main(["prepare", *options, "data.policy.bad-json=drop"]) == 0
    (rejects,) = tmp_path.glob("out/*/*/rejects.jsonl")
    (line,) = rejects.read_text().splitlines()
    assert "bad-json" in line
    assert json.loads(line)["row"] == 121


def model_folder(tmp_path: Path, config: str, tokenizer: str) -> Path:
    """Return a folder with a model's configuration and without weights."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_text(config)
    (folder / "tokenizer.json").write_text(tokenizer)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\n")
    return folder


OWN_CODE = '{"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoTokenizer": ["own.Config", null]}}'


@pytest.mark.parametrize("command", ["prepare", "train", "evaluate"])
@pytest.mark.parametrize(
    ("config", "tokenizer", "expected"),
    [
        (OWN_CODE, "{}", "set model.trust_remote_code=true"),
        ("[1]", "{}", "cannot find model"),
        ("{", "{}", "cannot find model"),
        ('{"model_type": "llama"}', "{", "cannot load the tokenizer"),
        ('{"model_type": "llama"}', '{"model": 5}', "cannot load the tokenizer"),
    ],
)
def test_a_model_that_cannot_be_read_is_a_fault(
    animals: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    config: str,
    tokenizer: str,
    expected: str,
) -> None:
    """Its code is not executed, and no command shows a traceback."""
    folder = model_folder(tmp_path, config, tokenizer)
    data = f"data.test={animals}" if command == "evaluate" else f"data.path={animals}"
    words = ["model=hub", f"model.name={folder}", "data=jsonl", data, f"paths.outputs={tmp_path}/out"]
    assert main([command, *words]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert "Traceback" not in error
    assert not (tmp_path / "ran").exists()


def test_parity_compares_every_trained_turn(animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"data.path={animals}", "model=tiny", f"paths.outputs={tmp_path}", "data.near_duplicates=null"]
    assert main(["prepare", *options, "--parity", "--show", "1", "data.train_on=answers"]) == 0
    shown = capsys.readouterr().out
    assert "parity     120 of 120 trained turns\n" in shown
    assert "targets    turns without calls with their reasoning" in shown
