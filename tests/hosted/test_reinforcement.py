"""Hosted reinforcement: the grader and the file of prompts, what is refused before the upload, and the job."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kamerton.config.compose import compose_values
from kamerton.config.faults import check_overrides
from kamerton.data.example import DataExample, Message, ToolCall
from kamerton.errors import UserError
from kamerton.hosted.reinforcement import check_turns, grader_of, line_of
from kamerton.monitor.series import read_rows
from kamerton.objective.graders import build_grader
from kamerton.objective.rewards import exact_match
from kamerton.score.table import read_scores
from support.imitation import Imitation
from support.rows import stored, write_jsonl
from support.runs import record

Hosted = Callable[..., Any]
GRPO = ("objective=grpo", "reward=exact_match", "baselines=false")
EXACT: dict[str, Any] = {"type": "string_check", "name": "exact_match", "operation": "eq"}
EXACT |= {"input": "{{sample.output_text}}", "reference": "{{item.reference_answer}}"}
CHAT = (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hi."), Message("user", "Why?"))


def section(*overrides: str) -> Any:
    """The section `reward` of overrides."""
    return compose_values(["model=tiny", "data=jsonl", *overrides])["reward"]


def grader_file(folder: Path, **changes: Any) -> Path:
    """A file with a grader."""
    file = folder / "grader.json"
    file.write_text(json.dumps({**EXACT, "name": "own", "reference": "{{item.answer.text}}", **changes}))
    return file


def test_exact_match_is_a_check_of_the_answer_against_a_field() -> None:
    assert grader_of(section("reward=exact_match")) == EXACT
    line = line_of(section("reward=exact_match"))(DataExample(CHAT, " Because. ", {"unseen": 1}))
    assert line["reference_answer"] == "Because."
    assert [turn["role"] for turn in line["messages"]] == ["system", "user", "assistant", "user"]
    assert set(line) == {"messages", "reference_answer"}


@pytest.mark.parametrize("answer", ["Paris", "paris", "PARIS is it", "", "Par"])
@pytest.mark.parametrize("options", [(), ("reward.exact_match.ignore_case=true",)])
def test_the_grader_of_exact_match_gives_its_rewards(answer: str, options: tuple[str, ...]) -> None:
    values = section("reward=exact_match", *options)
    grade = build_grader(grader_of(values))
    own = exact_match("", answer, "Paris", {}, ignore_case=bool(options))
    assert grade("", answer, None, {"reference_answer": "Paris"}) == own


def test_a_grader_of_a_file_is_sent_with_the_fields_that_it_reads(tmp_path: Path) -> None:
    file = grader_file(tmp_path)
    values = section("reward=grader", f"reward.grader.file={file}")
    assert grader_of(values) == json.loads(file.read_text())
    line = line_of(values)(DataExample("Why?", "", {"answer": {"text": "So."}, "unseen": 1}))
    assert line == {"messages": [{"role": "user", "content": "Why?"}], "answer": {"text": "So."}}


def test_several_rewards_are_a_multi_with_their_weights(tmp_path: Path) -> None:
    both = ("reward=[exact_match,grader]", f"reward.grader.file={grader_file(tmp_path)}", "reward.grader.weight=0.5")
    grader = grader_of(section(*both))
    assert grader["calculate_output"] == "exact_match + 0.5 * (grader)"
    assert set(grader["graders"]) == {"exact_match", "grader"}
    item = {"reference_answer": "a", "answer": {"text": "b"}}
    assert [build_grader(grader)("", answer, None, item) for answer in "abc"] == [1.0, 0.5, 0.0]
    file = grader_file(tmp_path, reference="{{item.reference_answer}}")
    with pytest.raises(UserError, match="rename the column reference_answer"):
        grader_of(section("reward=[exact_match,grader]", f"reward.grader.file={file}"))


def test_prompts_that_do_not_end_with_the_user_are_faults_with_their_lines(tmp_path: Path) -> None:
    result = Message("tool", "4", tool_call_id="1")
    call = Message("assistant", "", tool_calls=(ToolCall("add", "{}", "1"),))
    examples = stored([DataExample("Why?", "So."), DataExample((Message("user", "Add."), call, result), "4")], tmp_path)
    assert [(fault.code, fault.row) for fault in check_turns(examples)] == [("hosted.role", 2)]


@pytest.mark.parametrize(
    ("overrides", "column", "words"),
    [
        (["objective=rloo", "reward=exact_match"], "objective.name", "is trained here only"),
        (["objective=grpo", "reward=exact_match", "objective.kl_weight=0.1"], "objective.kl_weight", "has its own"),
        (["objective=grpo", "reward=exact_match", "objective.clip_high=0.3"], "objective.clip_high", "has its own"),
    ],
)
def test_options_that_a_hosted_job_has_itself_are_faults(overrides: list[str], column: str, words: str) -> None:
    base = ["model=openai", "model.name=mine", "data=jsonl", "data.path=x"]
    faults = [fault for fault in check_overrides([*base, *overrides]) if fault.column == column]
    assert [fault.code for fault in faults] == ["hosted.option"]
    assert words in faults[0].message


def test_a_job_is_created_with_the_grader_and_its_files(
    endpoint: Imitation, hosted: Hosted, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ("objective=grpo", "reward=exact_match", "objective.samples=4")
    result = hosted(*GRPO, "objective.samples=4", "trainer.max_epochs=2", typed=typed)
    (request,) = endpoint.requests
    hyperparameters = {"n_epochs": 2, "batch_size": 16, "compute_multiplier": 0.5}
    method = {"grader": EXACT, "hyperparameters": hyperparameters}
    assert request["method"] == {"type": "reinforcement", "reinforcement": method}
    counts = record(result.path)["data"]["counts"]
    for split, key in (("train", "training_file"), ("validation", "validation_file")):
        sent = [json.loads(line) for line in endpoint.contents[request[key]].splitlines()]
        assert len(sent) == counts[split]
        assert {row["reference_answer"] for row in sent} == {"yes", "no"}
        assert all([turn["role"] for turn in row["messages"]] == ["user"] for row in sent)
    rows = dict(read_rows(result.path / "metrics.csv"))
    assert (rows[2]["train/reward"], rows[2]["val/reward"], rows[1]["train/length"]) == (0.25, 0.75, 9)
    metrics = record(result.path)["metrics"]
    assert metrics["best"]["step"] == 2  # the highest reward, not the last
    assert (metrics["test"]["reward"], metrics["base"]["reward"] < 1) == (1.0, True)
    assert "metric:reward" in read_scores(result.path / "scores" / "test.parquet").column_names
    output = capsys.readouterr().out
    assert "method=reinforcement, grader=string_check, n_epochs=2" in output
    assert "paid by the hours of its training" in output
    assert "unused" not in output


@pytest.mark.parametrize(
    ("overrides", "code", "words"),
    [
        (["reward=number"], "hosted.option", "reward.number is computed here only"),
        (["reward=[exact_match,length]"], "hosted.option", "reward.length is computed here only"),
        (["reward=exact_match", "model.max_cost=5"], "hosted.price", "paid by the hours"),
    ],
)
def test_what_cannot_be_sent_is_a_fault_before_anything_is(
    endpoint: Imitation, hosted: Hosted, overrides: list[str], code: str, words: str
) -> None:
    with pytest.raises(UserError) as error:
        hosted("objective=grpo", *overrides)
    assert [(fault.code, words in fault.message) for fault in error.value.faults] == [(code, True)]
    assert not endpoint.counts["upload"]


def test_rows_without_a_field_of_the_grader_are_reported_before_the_upload(
    endpoint: Imitation, hosted: Hosted, tmp_path: Path
) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"What is {i} and {i * i}?"}], "answer": {"text": str(i)}}
        for i in range(40)
    ]
    rows[6]["answer"] = {}
    data = write_jsonl(tmp_path / "prompts.jsonl", rows)
    columns = ("data.columns.messages=messages", "data.columns.metadata=[answer]")
    words = [f"data.path={data}", f"reward.grader.file={grader_file(tmp_path)}", *columns]
    with pytest.raises(UserError) as error:
        hosted("objective=grpo", "reward=grader", *words)
    assert [(fault.code, fault.row) for fault in error.value.faults] == [("reward.field", 7)]
    assert not endpoint.counts["upload"]
    with pytest.raises(UserError) as error:
        hosted("objective=grpo", "reward=exact_match", "run_id=two", *words[:1], *columns)
    assert [fault.code for fault in error.value.faults] == ["missing-field"]
    rows[6]["answer"] = {"text": "6"}
    write_jsonl(data, rows)
    result = hosted("objective=grpo", "reward=grader", "base=false", "baselines=false", *words)
    assert record(result.path)["metrics"]["test"]["reward"] == 0
