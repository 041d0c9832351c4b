"""Hosted DPO: the preference file, what is refused before the upload, the job, and its cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kamerton.config.faults import check_overrides
from kamerton.data.example import Alternative, DataExample, Message, ToolCall
from kamerton.data.options import DataOptions
from kamerton.data.validation import read_examples
from kamerton.errors import UserError
from kamerton.hosted.check import preflight_faults
from kamerton.hosted.convert import left_out
from kamerton.hosted.cost import Price, count_tokens, estimate
from kamerton.hosted.preferences import (
    NAMED,
    check_preferences,
    pairs_of,
    preference_line,
    ranking_notice,
    sides_of,
)
from kamerton.monitor.series import read_rows
from kamerton.objective.pairs import PreferenceRows
from support.imitation import Imitation
from support.pairs_files import pairs
from support.rows import stored, write_jsonl
from support.runs import record

Hosted = Callable[..., Any]
DPO = ("objective=dpo", "base=false", "baselines=false")
CALL = (ToolCall("add", "{}", "call_1"),)
TOOLS = '[{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]'
CHAT = (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hi."), Message("user", "Why?"))
PAIR = DataExample(CHAT, "Because.", {"kept": 1}, tools=TOOLS, score=1.0, alternatives=(Alternative("Dunno.", 0.0),))


@pytest.fixture
def data(tmp_path: Path) -> str:
    """The override of a file of pairs."""
    return f"data.path={write_jsonl(tmp_path / 'pairs.jsonl', pairs(40))}"


def test_a_line_has_the_prompt_its_functions_and_one_answer_on_each_side(tmp_path: Path) -> None:
    line = preference_line(PAIR)
    assert line == {
        "input": {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hi."},
                {"role": "user", "content": "Why?"},
            ],
            "tools": json.loads(TOOLS),
        },
        "preferred_output": [{"role": "assistant", "content": "Because."}],
        "non_preferred_output": [{"role": "assistant", "content": "Dunno."}],
    }
    file = write_jsonl(tmp_path / "sent.jsonl", [line])
    (read,) = read_examples(DataOptions(path=str(file), rows="preferences"))
    assert read.id == PAIR.id


def test_each_row_that_the_endpoint_would_refuse_is_a_fault_with_its_line(tmp_path: Path) -> None:
    def pair(better: str, worse: str, **more: Any) -> DataExample:
        other = Alternative(worse, 0.0, "", more.pop("calls", ()))
        return DataExample("Why?", better, score=1.0, alternatives=(other,), **more)

    ranked = DataExample("Why?", "a", score=3.0, alternatives=(Alternative("b", 2.0), Alternative("c", 1.0)))
    rows = [
        PAIR,
        DataExample("Why?", "a", score=1.0),
        ranked,
        pair("a", "", calls=CALL),
        pair("", "b", tool_calls=CALL),
        pair("a", " "),
        pair("a", "b", weight=0.0),
    ]
    faults = check_preferences(stored(rows, tmp_path))
    assert [(fault.row, fault.message.partition(",")[0]) for fault in faults] == [
        (2, "the row has one completion"),
        (4, "the worse completion calls functions"),
        (5, "the better completion calls functions"),
        (6, "the worse completion is empty"),
        (7, "the row has weight 0"),
    ]
    assert {fault.code for fault in faults} == {"hosted.preference"}
    many = check_preferences(stored([rows[1]] * (NAMED + 5), tmp_path / "many"))
    assert len(many) == NAMED + 1
    assert many[-1].message.startswith("5 more rows")


def test_reasoning_of_either_side_is_counted() -> None:
    thought = DataExample("Why?", "a", score=1.0, alternatives=(Alternative("b", 0.0, "Hm."),))
    (fault,) = left_out("train", [PAIR, thought])
    assert "1 turns of 1 train examples" in fault.message
    assert not list(left_out("test", [PAIR, thought]))


def test_a_pair_costs_two_chats() -> None:
    cost = estimate([PAIR], [], None, Price(), epochs=1, models=0, answer=1)
    assert cost.training_tokens == sum(count_tokens(side.messages, None) for side in sides_of(PAIR))
    assert len(sides_of(PAIR)) == 2


def test_a_job_is_created_with_the_method_and_its_files(
    endpoint: Imitation, hosted: Hosted, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = hosted(*DPO, data, "objective.beta=0.2", "trainer.max_epochs=2", typed=("objective=dpo",))
    (request,) = endpoint.requests
    hyperparameters = {"n_epochs": 2, "batch_size": 16, "beta": 0.2}
    assert request["method"] == {"type": "dpo", "dpo": {"hyperparameters": hyperparameters}}
    counts = record(result.path)["data"]["counts"]
    for split, key in (("train", "training_file"), ("validation", "validation_file")):
        sent = [json.loads(line) for line in endpoint.contents[request[key]].splitlines()]
        assert len(sent) == counts[split]
        for name, text in (("preferred_output", "yes"), ("non_preferred_output", "no")):
            assert all(row[name] == [{"role": "assistant", "content": text}] for row in sent)
    assert record(result.path)["objective"] == "dpo"
    events = [json.loads(line) for line in (result.path / "events.jsonl").read_text().splitlines()]
    (created,) = [event for event in events if event["code"] == "hosted.job"]
    assert created["evidence"] == request["method"]
    rows = dict(read_rows(result.path / "metrics.csv"))
    assert "train/loss" in rows[1]
    assert "train/perplexity" not in rows[1]  # the loss is of pairs
    assert (result.path / "scores" / "test.parquet").exists()
    output = capsys.readouterr().out
    assert "method=dpo, n_epochs=2, batch_size=16, beta=0.2" in output
    assert "unused" not in output


def test_refused_rows_are_reported_before_anything_is_sent(endpoint: Imitation, hosted: Hosted, tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    tools = json.loads(TOOLS)
    rows: list[dict[str, Any]] = [
        *pairs(40),
        {
            "prompt": "add them",
            "chosen": [{"role": "assistant", "tool_calls": [call]}],
            "rejected": [{"role": "assistant", "content": "no"}],
            "tools": tools,
        },
    ]
    file = write_jsonl(tmp_path / "calls.jsonl", rows)
    with pytest.raises(UserError) as error:
        hosted(*DPO, f"data.train={file}", "data.path=null", "data.policy.mixed-schemas=warn")
    (fault,) = error.value.faults
    assert (fault.code, fault.row) == ("hosted.preference", 81)
    assert not endpoint.counts["upload"]


def ranking(*scores: float) -> DataExample:
    """Completions `a`, `b`, ... of these scores."""
    others = tuple(Alternative("abcdef"[i], score) for i, score in enumerate(scores[1:], 1))
    return DataExample("Why?", "a", score=scores[0], alternatives=others)


def test_a_ranking_is_sent_as_the_pairs_that_are_compared_here(tmp_path: Path) -> None:
    def texts(example: DataExample) -> list[str]:
        lines = [preference_line(pair) for pair in pairs_of([example])]
        return [line["preferred_output"][0]["content"] + line["non_preferred_output"][0]["content"] for line in lines]

    assert texts(ranking(3, 2, 1)) == ["ab", "ac", "bc"]
    assert texts(ranking(2, 2, 1, 1)) == ["ac", "ad", "bc", "bd"]  # completions of equal scores are not compared
    scores = np.array([2.0, 2.0, 1.0, 1.0])
    rows = PreferenceRows(scores, scores, np.ones(4, np.int32), np.array([0]), np.ones(1))
    assert [f"{'abcd'[i]}{'abcd'[j]}" for i, j in rows.pairs(0)] == ["ac", "ad", "bc", "bd"]
    assert texts(PAIR) == ["Because.Dunno."]


def test_rankings_are_counted_with_what_their_pairs_weigh() -> None:
    assert not ranking_notice("train", [PAIR])
    (fault,) = ranking_notice("train", [ranking(3, 2, 1), ranking(5, 4, 3)])
    assert fault.message == "2 train rows are rankings, and are sent as 6 pairs, which batch.size counts"
    (fault,) = ranking_notice("validation", [PAIR, ranking(3, 2, 1)])
    assert "1 validation rows are rankings, and are sent as 3 pairs; rows have 1 to 3 pairs" in fault.message
    assert fault.severity == "warning"


def test_a_job_of_rankings_has_all_their_pairs(endpoint: Imitation, hosted: Hosted, tmp_path: Path) -> None:
    rows = [
        {"prompt": row["prompt"], "completions": ["yes", "maybe", "no"], "scores": [3, 2, 1]} for row in pairs(40)[::2]
    ]
    file = write_jsonl(tmp_path / "ranked.jsonl", rows)
    result = hosted(*DPO, f"data.path={file}")
    sent = endpoint.contents[endpoint.requests[0]["training_file"]].splitlines()
    assert len(sent) == 3 * record(result.path)["data"]["counts"]["train"]
    events = [json.loads(line) for line in (result.path / "events.jsonl").read_text().splitlines()]
    assert [event["code"] for event in events if event["code"].startswith("hosted.rank")] == ["hosted.ranking"] * 2


def test_metrics_of_preferences_are_kept(endpoint: Imitation, hosted: Hosted, data: str) -> None:
    events = endpoint.events

    def with_preferences(job: dict[str, Any]) -> list[dict[str, Any]]:
        result = events(job)
        for event in result:
            if event["type"] == "metrics":
                event["data"] |= {"train_preference_accuracy": 0.75, "full_valid_margin": 1.5}
        return result

    endpoint.events = with_preferences  # type: ignore[method-assign]
    rows = dict(read_rows(hosted(*DPO, data).path / "metrics.csv"))
    assert (rows[1]["train/preference_accuracy"], rows[1]["val/margin"]) == (0.75, 1.5)


def test_pairs_without_an_objective_that_compares_them_are_a_fault(endpoint: Imitation, data: str) -> None:
    base = ["model=openai", "model.name=mine", "data=jsonl", data]
    faults = check_overrides([*base, "data.rows=preferences"], preflight=preflight_faults)
    assert [fault.column for fault in faults if fault.severity == "error"] == ["data.rows"]


@pytest.mark.parametrize(
    ("overrides", "column", "words"),
    [
        (["objective=ipo"], "objective.name", "objective.name=ipo is trained here only"),
        (["objective=kto"], "objective.name", "objective.name=kto is trained here only"),
        (["objective=dpo", "objective.sft_weight=0.5"], "objective.sft_weight", "has its own"),
        (["objective=dpo", "objective.label_smoothing=0.1"], "objective.label_smoothing", "has its own"),
    ],
)
def test_what_a_hosted_job_cannot_learn_is_a_fault_with_its_fix(overrides: list[str], column: str, words: str) -> None:
    base = ["model=openai", "model.name=mine", "data=jsonl", "data.path=x"]
    (fault,) = check_overrides([*base, *overrides])
    assert (fault.code, fault.column) == ("hosted.option", column)
    assert words in fault.message
    assert not check_overrides([*base, "objective=dpo"])
