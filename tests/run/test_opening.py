"""Run directories: stable names, nothing overwritten, and only the right run is resumed."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from kamerton.config.compose import compose_values
from kamerton.config.rewards import with_kept_graders
from kamerton.errors import UserError
from kamerton.run import opening
from kamerton.run.changes import SUPERVISED
from kamerton.run.directory import RunDirectory, read_config, read_values
from kamerton.run.opening import config_id, elsewhere_faults, open_run


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    return {
        "name": "demo",
        "run_id": None,
        "resume": None,
        "seed": 1,
        "optimizer": {"lr": 1e-3},
        "batch": {"size": 8, "max_tokens": 512},
        "paths": {"outputs": str(tmp_path)},
        "logger": {},
    }


def finish(run: RunDirectory, state: Any = "succeeded") -> RunDirectory:
    run.set_state(state)
    run.release()
    return run


def test_the_id_depends_on_what_is_asked_not_on_where_it_is_written(values: dict[str, Any]) -> None:
    elsewhere = {**values, "paths": {"outputs": "/elsewhere"}, "resume": "auto", "run_id": "x"}
    assert config_id(elsewhere) == config_id(values)
    assert config_id({**values, "seed": 2}) != config_id(values)


def test_the_same_command_again_makes_a_new_directory(values: dict[str, Any]) -> None:
    first, second, third = (finish(open_run(values)).run_id for _ in range(3))
    assert (second, third) == (f"{first}-2", f"{first}-3")


def test_a_named_unfinished_run_is_resumed(values: dict[str, Any]) -> None:
    values["run_id"] = "mine"
    run = finish(open_run(values), "paused")
    run.values["metrics"] = {"train": {"loss": 1.0}}
    again = open_run({**values, "batch": {"size": 8, "max_tokens": 99}})
    assert again.resuming
    assert again.path == run.path


def test_an_older_run_keeps_its_default_of_one_epoch_and_its_id(values: dict[str, Any]) -> None:
    older, now = ({**values, "trainer": {"max_epochs": epochs, "max_steps": 150}} for epochs in (1, -1))
    assert config_id(older) == config_id(now)
    run = finish(open_run(older), "paused")
    again = open_run({**now, "resume": "auto"})
    assert again.path == run.path
    assert yaml.safe_load((again.path / "config.yaml").read_text())["trainer"]["max_epochs"] == 1


def test_an_older_run_keeps_its_id_and_resumes_without_the_scoring_of_validations(values: dict[str, Any]) -> None:
    older = {**values, "eval": {"strategy": "epoch", "every": 1}}
    now = {**values, "eval": {**older["eval"], "score": None, "sample": None}}
    assert config_id(older) == config_id(now)
    assert config_id(now) != config_id({**now, "eval": {**now["eval"], "score": "labels"}})
    run = finish(open_run(older), "paused")
    assert open_run({**now, "resume": "auto"}).path == run.path


def test_an_older_run_keeps_its_id_and_resumes_without_later_keys_of_data(values: dict[str, Any]) -> None:
    before = {"format": "jsonl", "encoding": "utf-8", "overlong": "error", "control_tokens": "text"}
    later = {"train_on": "all", "train_on_reasoning": True, "earlier_reasoning": "template", "encoding": "auto"}
    older, now = {**values, "data": before}, {**values, "data": {**before, **later}}
    assert config_id(older) == config_id(now)
    other = {**now, "data": {**now["data"], "train_on": "calls"}}
    assert config_id(other) != config_id(now)
    run = finish(open_run(older), "paused")
    assert open_run({**now, "resume": "auto"}).path == run.path
    finish(run, "paused")
    with pytest.raises(UserError, match="train_on"):
        open_run({**other, "run_id": run.run_id})


def test_an_older_run_keeps_its_id_and_resumes_without_an_objective(values: dict[str, Any]) -> None:
    before = {"data": {"columns": {"prompt": None}}, "model": {"name": "tiny"}}
    later = {"data": {"columns": {"prompt": None, "chosen": None, "rejected": None}, "rows": "completions"}}
    later |= {"model": {"name": "tiny", "adapter": None}, "objective": {"name": "sft"}, "reward": {}}
    older, now = {**values, **before, "score": {"seed": 0}}, {**values, **later, "score": {"seed": 0, "data": None}}
    assert config_id(older) == config_id(now)
    others = [{**now, "objective": {**SUPERVISED, "name": "dpo"}}, {**now, "model": {"name": "tiny", "adapter": "a"}}]
    assert len({config_id(each) for each in (now, *others)}) == 3
    run = finish(open_run(older), "paused")
    assert open_run({**now, "resume": "auto"}).path == run.path
    written = yaml.safe_load((run.path / "config.yaml").read_text())  # as a run of its version has it
    assert {key: value for key, value in written.items() if key != "resume"} == {
        key: value for key, value in older.items() if key != "resume"
    }
    finish(run, "paused")
    for other, key in zip(others, ("objective.name", "model.adapter"), strict=True):
        with pytest.raises(UserError, match=key):
            open_run({**other, "run_id": run.run_id})


@pytest.mark.parametrize("rows", [{}, {"rows": "completions"}])
def test_an_older_run_on_rewards_keeps_its_id_and_resumes(values: dict[str, Any], rows: dict[str, str]) -> None:
    values = {**values, "objective": {**SUPERVISED, "name": "grpo"}}
    older, now = (
        {**values, "data": {"format": "jsonl", **rows}},
        {**values, "data": {"format": "jsonl", "rows": "prompts"}},
    )
    assert config_id(older) == config_id(now)
    run = finish(open_run(older), "paused")
    again = open_run({**now, "resume": "auto"})
    assert again.path == run.path
    assert yaml.safe_load((again.path / "config.yaml").read_text())["data"] == older["data"]


def test_an_older_run_resumes_with_its_control_token_setting(values: dict[str, Any]) -> None:
    older, now = (
        {**values, "data": {"format": "jsonl"}},
        {**values, "data": {"format": "jsonl", "control_tokens": "text"}},
    )
    assert config_id(older) == config_id(now)
    run = finish(open_run(older), "paused")
    again = open_run({**now, "resume": "auto"})
    assert again.path == run.path
    assert read_config(again.path)["data"]["control_tokens"] == "parse"
    finish(again, "paused")
    assert open_run({**now, "resume": "auto"}).path == run.path


def test_resume_auto_takes_the_unfinished_run_of_this_configuration(values: dict[str, Any]) -> None:
    run = finish(open_run(values), "paused")
    assert open_run({**values, "resume": "auto"}).path == run.path
    assert not open_run({**values, "resume": "auto", "seed": 2}).resuming
    finish(run)
    again = open_run({**values, "resume": "auto"})
    assert (again.resuming, again.run_id) == (False, f"{run.run_id}-2")


def test_resume_auto_looks_past_runs_that_are_finished_or_running(values: dict[str, Any]) -> None:
    stopped, running, last = (open_run(values) for _ in range(3))
    finish(stopped, "paused")
    finish(last)
    values["resume"] = "auto"
    again = open_run(values)
    assert (again.resuming, again.path) == (True, stopped.path)
    with pytest.raises(UserError, match=f"run {running.run_id} is running"):  # no second one of it
        open_run(values)


def test_a_finished_run_is_not_overwritten(values: dict[str, Any]) -> None:
    values["run_id"] = "mine"
    finish(open_run(values))
    with pytest.raises(UserError, match="run mine is finished"):
        open_run(values)


def test_a_run_has_one_process_at_a_time(values: dict[str, Any]) -> None:
    values["run_id"] = "mine"
    run = open_run(values)
    run.set_state("running")
    with pytest.raises(UserError, match=rf"is running \(process {os.getpid()}\)"):
        open_run(values)
    run.release()  # as the system does when the process is killed
    assert open_run(values).resuming


def test_a_run_that_finishes_during_the_lookup_is_not_overwritten(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    values["run_id"] = "mine"
    run = open_run(values)
    lock = opening.own

    def just_finished(path: Path) -> Any:
        monkeypatch.setattr(opening, "own", lock)
        finish(run)
        return lock(path)

    monkeypatch.setattr(opening, "own", just_finished)
    for _ in range(2):  # and what was refused is not kept locked
        with pytest.raises(UserError, match="run mine is finished"):
            open_run(values)


def test_another_configuration_is_refused_with_every_difference(values: dict[str, Any]) -> None:
    values["run_id"] = "mine"
    finish(open_run(values), "paused")
    changed = copy.deepcopy(values) | {"seed": 7, "optimizer": {"lr": 1e-4}}
    with pytest.raises(UserError) as caught:
        open_run(changed)
    assert [(fault.column, fault.message.split(" with ")[1]) for fault in caught.value.faults] == [
        ("seed", "seed=1, now it is 7"),
        ("optimizer.lr", "optimizer.lr=0.001, now it is 0.0001"),
    ]


def test_resume_force_resumes_and_reports_the_changes(values: dict[str, Any]) -> None:
    values["run_id"] = "mine"
    finish(open_run(values), "paused")
    run = finish(open_run(values | {"seed": 7, "resume": "force"}), "paused")
    assert (run.resuming, run.changed) == (True, ["seed: 1 → 7"])
    assert not open_run(values | {"seed": 7}).changed


def test_resume_force_must_name_its_run(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="resume=force needs the id of the run"):
        open_run(values | {"resume": "force"})


def test_an_unfinished_run_under_another_name_is_not_started_again(values: dict[str, Any]) -> None:
    run = open_run({**values, "name": "mine", "run_id": "first"})
    request = {**values, "run_id": "first"}
    (fault,) = elsewhere_faults(request)
    assert (fault.column, str(run.path.parent) in fault.message) == ("run_id", True)
    assert elsewhere_faults({**request, "name": "mine"}) == elsewhere_faults({**request, "run_id": "second"}) == []
    finish(run)
    assert elsewhere_faults(request) == []


def test_events_append_and_the_record_merges(values: dict[str, Any]) -> None:
    run = open_run(values)
    run.update(metrics={"train": {"loss": 1.0}})
    run.update(metrics={"validation": {"loss": 2.0}})
    record = read_values(run.path)
    assert record is not None
    assert record["metrics"] == {"train": {"loss": 1.0}, "validation": {"loss": 2.0}}
    run.event("info", "one", "first")
    run.event("warn", "two", "second", evidence={"at": 3}, advice="look")
    lines = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert [line["code"] for line in lines] == ["one", "two"]
    assert set(lines[0]) == {"time", "level", "code", "message", "evidence", "advice"}


def test_a_requeued_slurm_job_resumes_its_run(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = finish(open_run(values), "paused")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert open_run(values).path == stopped.path
    monkeypatch.delenv("SLURM_RESTART_COUNT")
    assert open_run(values).path != stopped.path


@pytest.mark.parametrize(
    ("name", "content"),
    [("run.json", b"{"), ("run.json", b"3"), ("run.json", b"\xff"), ("config.yaml", b"a: ["), ("config.yaml", None)],
)
def test_a_damaged_run_directory_is_a_fault_that_names_the_file(
    values: dict[str, Any], name: str, content: bytes | None
) -> None:
    run = finish(open_run(values), "paused")
    file = run.path / name
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(UserError) as raised:
        open_run({**values, "run_id": run.run_id})
    assert [(fault.code, fault.file) for fault in raised.value.faults] == [("run.damaged", str(file))]


def test_the_id_of_the_default_configuration_is_that_of_versions_without_objectives_and_rewards() -> None:
    assert config_id(compose_values([])) == "r410dcee"


@pytest.fixture
def graded(values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A configuration with the grader file `grader.json`, whose folder is a value of the environment."""
    monkeypatch.setenv("GRADERS", str(tmp_path))
    (tmp_path / "grader.json").write_text('{"operation": "eq"}')
    node = {"_target_": "kamerton.objective.rewards.grader", "file": "${oc.env:GRADERS}/grader.json"}
    return {**values, "reward": {"grader": node}}


def test_another_grader_in_the_same_file_is_another_run(graded: dict[str, Any], tmp_path: Path) -> None:
    run = finish(open_run(graded), "paused")
    same = finish(open_run({**graded, "resume": "auto"}), "paused")
    (tmp_path / "grader.json").write_text('{"operation": "ne"}')
    other = finish(open_run({**graded, "resume": "auto"}), "paused")
    assert same.path == run.path
    assert (other.path == run.path, other.resuming) == (False, False)
    with pytest.raises(UserError) as caught:
        open_run({**graded, "run_id": run.run_id})
    assert [fault.code for fault in caught.value.faults] == ["run.grader-changed"]
    forced = finish(open_run({**graded, "run_id": run.run_id, "resume": "force"}), "paused")
    assert (forced.resuming, "another grader" in forced.changed[0]) == (True, True)
    assert not open_run({**graded, "run_id": run.run_id}).changed


def test_a_run_keeps_the_grader_that_it_was_opened_with(graded: dict[str, Any], tmp_path: Path) -> None:
    def kept() -> str:
        (node,) = with_kept_graders(graded["reward"], run.path).values()
        return Path(node["file"]).read_text()

    run = finish(open_run(graded), "paused")
    (tmp_path / "grader.json").write_text('{"operation": "ne"}')
    assert kept() == '{"operation": "eq"}'
    finish(open_run({**graded, "run_id": run.run_id, "resume": "force"}), "paused")
    assert kept() == '{"operation": "ne"}'


def test_a_run_whose_grader_was_written_or_recorded_later_resumes(graded: dict[str, Any], tmp_path: Path) -> None:
    text = (tmp_path / "grader.json").read_text()
    (tmp_path / "grader.json").unlink()
    named = {**graded, "run_id": "mine"}
    run = finish(open_run(named), "paused")
    (tmp_path / "grader.json").write_text(text)
    finish(open_run(named), "paused")
    (tmp_path / "grader.json").write_text("{}")
    with pytest.raises(UserError, match="another grader"):
        open_run(named)
    other = {**named, "reward": {"exact_match": {"_target_": "kamerton.objective.rewards.exact_match"}}}
    with pytest.raises(UserError) as caught:
        open_run(other)
    assert {fault.code for fault in caught.value.faults} == {"run.changed"}
    assert run.path.name == "mine"
