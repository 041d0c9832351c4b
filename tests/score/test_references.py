"""Values of rewards are compared only if the same functions, arguments and weights computed them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from kamerton.config.rewards import build_reward
from kamerton.objective.grading import Reward
from kamerton.score.baselines import previous
from kamerton.score.metrics import compute
from kamerton.score.references import incomparable
from kamerton.score.rewards import with_rewards
from support import synthetic

LENGTH = {"_target_": "kamerton.objective.rewards.length", "most": 1}


def table(*rewards: Reward) -> pa.Table:
    rows = synthetic.scores(0.5, rows=4, labelled=False)
    answered = rows.set_column(rows.column_names.index("finish_reason"), "finish_reason", pa.array(["stop"] * 4))
    return with_rewards(answered, rewards)


def reward(name: str = "length", **options: object) -> Reward:
    return build_reward(name, LENGTH | options, ())


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([reward()], [reward(timeout=5)], set()),
        ([reward()], [reward(most=2)], {"reward", "reward_length"}),
        ([reward()], [reward(weight=2)], {"reward"}),
        ([reward(), reward("b")], [reward(), reward("b", weight=2)], {"reward"}),
        ([reward(), reward("b")], [reward(), reward("b", most=3)], {"reward", "reward_b"}),
    ],
)
def test_metrics_of_other_rewards_are_not_comparable(
    first: list[Reward], second: list[Reward], expected: set[str]
) -> None:
    metrics = ("reward", "reward_length", "reward_b", "exact_match", "loss")
    assert {name for name in metrics if incomparable(name, table(*first), table(*second))} == expected


def test_tables_that_do_not_name_their_rewards_are_comparable() -> None:
    assert not incomparable("reward", table(reward()).replace_schema_metadata(), table(reward(most=2)))


def test_a_table_does_not_hold_the_arguments_of_its_rewards() -> None:
    secret = build_reward("regex", {"_target_": "kamerton.objective.rewards.regex", "pattern": "hunter2"}, ())
    metadata = table(secret).schema.metadata
    assert b"regex" in metadata[b"rewards"]
    assert b"hunter2" not in b"".join(metadata.values())


def test_the_best_earlier_run_has_the_same_rewards(tmp_path: Path) -> None:
    def run(name: str, scores: pa.Table) -> Path:
        (tmp_path / name).mkdir()
        synthetic.write_scores(tmp_path / name, "test", scores)
        (tmp_path / name / "run.json").write_text(
            json.dumps({"state": "succeeded", "metrics": {"test": compute(scores)}})
        )
        return tmp_path / name

    new = run("new", table(reward()))
    run("other", table(reward(most=2)))
    assert previous(new, table(reward())) is None
    run("same", table(reward()))
    result = previous(new, table(reward()))
    assert result is not None
    assert result.schema.metadata[b"run"] == b"same"
