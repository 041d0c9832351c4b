"""Rewards that fail on the first rows fail before the model is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kamerton.config.check import to_config
from kamerton.config.compose import compose_values
from kamerton.data.inputs import load_inputs
from kamerton.errors import Fault, UserError
from kamerton.pipeline.check import data_faults
from kamerton.pipeline.validation import check_scoring
from support.rows import question, write_jsonl

OWN = """
def right(prompt, completion, reference, metadata):
    return float(reference.strip() == completion)

def shorter(prompt, completion, reference, metadata):
    return -len(completion)

def first_try(prompt, completion, reference, metadata):
    return 1 / (len(completion) - 1)

def infinite(prompt, completion, reference, metadata):
    return float("inf")

def nothing(prompt, completion, reference, metadata):
    pass

def by_topic(prompt, completion, reference, metadata):
    return float(metadata["topic"]["name"] in completion)

def slow(prompt, completion, reference, metadata):
    while True:
        pass
"""


@pytest.fixture
def values(tmp_path: Path, module: Callable[[str, str], None]) -> Callable[..., dict[str, Any]]:
    """Composes a run on rewards of rows whose completions are the given texts; None: prompts alone."""
    module("own_rewards", OWN)

    def compose(completions: list[str | None], *options: str) -> dict[str, Any]:
        rows = [{"prompt": question(i), "completion": text} for i, text in enumerate(completions)]
        data = write_jsonl(tmp_path / "rows.jsonl", rows)
        typed = ["model=tiny", "objective=grpo", "data=jsonl", f"data.path={data}", "allow_targets=[own_rewards.]"]
        return compose_values([*typed, "data.near_duplicates=null", *options])

    return compose


def own(name: str) -> str:
    return f"reward._target_=own_rewards.{name}"


def only(faults: list[Fault]) -> Fault:
    (fault,) = faults
    return fault


def test_a_reward_that_needs_a_reference_is_refused_for_prompts_alone(values: Callable[..., dict[str, Any]]) -> None:
    mixed = [None if i in (3, 7) else "yes" for i in range(40)]
    fault = only(data_faults(values(mixed, own("right"))))
    assert fault.code == "reward.failed"
    assert fault.row in (4, 8)
    assert "AttributeError" in fault.message
    assert "data.columns.completion=NAME" in fault.fix
    assert not data_faults(values(mixed, own("shorter")))
    assert not data_faults(values(["yes"] * 40, own("right")))


def test_a_column_that_only_one_row_lacks_is_found_before_training(
    values: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    rows = [{"prompt": question(i), "completion": "yes", "topic": {"name": "sums"}} for i in range(40)]
    del rows[30]["topic"]
    data = write_jsonl(tmp_path / "topics.jsonl", rows)
    fault = only(data_faults(values(["yes"] * 40, own("by_topic"), f"data.path={data}")))
    assert (fault.code, fault.row) == ("reward.failed", 31)
    assert "KeyError: topic" in fault.message or "KeyError: 'topic'" in fault.message
    rows[30]["topic"] = {"name": "odd"}
    data = write_jsonl(tmp_path / "complete.jsonl", rows)
    assert not data_faults(values(["yes"] * 40, own("by_topic"), f"data.path={data}"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([own("first_try")], "ZeroDivisionError"),
        ([own("infinite")], "not a finite number"),
        ([own("nothing")], "returned None"),
        (["reward=regex", "reward.regex.pattern='('"], "reward regex failed"),
    ],
)
def test_a_reward_that_fails_on_the_first_row_is_a_fault_with_that_row(
    values: Callable[..., dict[str, Any]], options: list[str], message: str
) -> None:
    fault = only(data_faults(values([str(i % 10) for i in range(40)], *options)))
    assert (fault.code, fault.column) == ("reward.failed", "reward")
    assert str(fault.file).endswith("rows.jsonl")
    assert fault.row
    assert message in fault.message
    assert "goes on" not in fault.fix


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["reward=number"], "'nine' has no number"),
        (["reward=label", "reward.label.labels=['1','2','3']"], "'nine' is none of the labels: 1, 2, 3"),
    ],
)
def test_every_completion_that_cannot_be_compared_with_is_a_fault_with_its_row(
    values: Callable[..., dict[str, Any]], options: list[str], words: str
) -> None:
    completions = [{7: "nine", 9: "ten", 20: "nine"}.get(i, str(i % 3 + 1)) for i in range(40)]
    first, second = data_faults(values(completions, *options))
    assert words in first.message
    assert (first.row, second.row) == (8, 10)
    assert "ten" in second.message
    assert not data_faults(values([str(i % 3 + 1) for i in range(40)], *options))


def test_options_that_no_completion_meets_are_one_fault(values: Callable[..., dict[str, Any]]) -> None:
    fault = only(data_faults(values([str(i % 10) for i in range(40)], "reward=label", "reward.label.labels=[]")))
    assert "labels is []" in fault.message


def test_a_reward_that_does_not_return_is_a_fault(values: Callable[..., dict[str, Any]]) -> None:
    fault = only(data_faults(values(["yes"] * 40, own("slow"), "reward.timeout=0.01")))
    assert fault.code == "reward.timeout"


def test_training_refuses_the_reward_as_well(values: Callable[..., dict[str, Any]]) -> None:
    config = to_config(values([None] * 40, own("right")))
    inputs = load_inputs(config.data, config.split, config.model)
    with pytest.raises(UserError, match="reward right failed"):
        check_scoring(config, inputs)


def test_rewards_with_other_faults_are_not_called(values: Callable[..., dict[str, Any]]) -> None:
    completions: list[str | None] = ["yes"] * 40
    assert not data_faults(values(completions, own("infinite"), "reward.weight=much"))
    assert not data_faults(values(completions, own("infinite"), "reward.limit=3"))
    assert not data_faults(values(completions, own("infinite"), "allow_targets=[]"))
    assert {fault.code for fault in data_faults(values([None] * 40, "reward=exact_match"))} == {"missing-field"}
