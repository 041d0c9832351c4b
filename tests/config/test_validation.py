"""Options of scored validations: what is logged under them, and metrics that no validation logs."""

from __future__ import annotations

import pytest

from kamerton.config.compose import compose_values
from kamerton.config.faults import check_overrides
from kamerton.config.training import check_training
from kamerton.config.validation import LOSS_METRICS, check_validation, logged_metrics
from kamerton.direction import LABEL_METRICS, TEXT_METRICS
from kamerton.score.metrics import compute
from kamerton.score.table import scores_table

MONITOR = "callbacks.checkpoint_best.monitor"
CUSTOM = ("+metrics.mine._target_=mine.metric", "allow_targets=[mine.]")


@pytest.mark.parametrize(
    ("overrides", "column", "message", "fix"),
    [
        ([f"{MONITOR}=val/accuracy"], MONITOR, "'val/accuracy', which no validation logs", "set eval.score=labels"),
        ([f"{MONITOR}=val/bleu"], MONITOR, "'val/bleu'", "set eval.score=generate"),
        ([f"{MONITOR}=val/bleu", "eval.score=labels"], MONITOR, "'val/bleu'", "set eval.score=generate"),
        ([f"{MONITOR}=val/ece", "eval.score=labels", "score.labels=argmax"], MONITOR, "ece", "set score.labels=exact"),
        ([f"{MONITOR}=val/acuracy"], MONITOR, "acuracy", "did you mean 'val/accuracy'? For it, set eval.score=labels"),
        ([f"{MONITOR}=val/acuracy", "eval.score=labels"], MONITOR, "acuracy", "did you mean 'val/accuracy'?"),
        ([f"{MONITOR}=val/los"], MONITOR, "val/los", "did you mean 'val/loss'?"),
        (
            [f"{MONITOR}=val/zzz"],
            MONITOR,
            "val/zzz",
            "valid here: val/loss, val/perplexity, val/token_accuracy",
        ),
        (
            [f"{MONITOR}=val/mine", "callbacks.checkpoint_best.mode=min", *CUSTOM],
            MONITOR,
            "'val/mine'",
            "set eval.score=auto",
        ),
        (
            [f"{MONITOR}=val/mine", "eval.score=auto", *CUSTOM],
            "callbacks.checkpoint_best.mode",
            "whether more or less of it is better is unknown",
            "set callbacks.checkpoint_best.mode=max or callbacks.checkpoint_best.mode=min",
        ),
        ([f"{MONITOR}=val/f1", "eval.score=labels", "callbacks.checkpoint_best.mode=min"], None, "more of val/f1", ""),
        (["eval.sample=5"], "eval.sample", "not scored", "set eval.score=auto, or leave it out"),
    ],
)
def test_a_metric_that_no_validation_logs_names_the_option(
    overrides: list[str], column: str | None, message: str, fix: str
) -> None:
    (fault,) = check_training(compose_values(overrides))
    assert fault.column == (column or "callbacks.checkpoint_best.mode")
    assert message in fault.message
    assert fix in fault.fix


@pytest.mark.parametrize(
    "overrides",
    [
        [f"{MONITOR}=val/f1", "eval.score=labels"],
        [f"{MONITOR}=val/f1", "eval.score=generate"],
        [f"{MONITOR}=val/chrf", "eval.score=generate"],
        [f"{MONITOR}=val/chrf", "eval.score=auto", "score.mode=generate"],
        [f"{MONITOR}=val/mine", "callbacks.checkpoint_best.mode=max", "eval.score=auto", *CUSTOM],
        ["eval.score=labels", "score.mode=generate", "score.normalization=token"],
        ["eval.score=auto", "trainer=ddp"],
        ["eval.score=generate", "trainer=fsdp"],
    ],
)
def test_scored_metrics_may_be_monitored(overrides: list[str]) -> None:
    assert check_training(compose_values(overrides)) == []


@pytest.mark.parametrize(
    "override", ["eval.score=accuracy", "eval.score=reference", "eval.sample=0", "eval.sample=0.5"]
)
def test_other_values_are_faults(override: str) -> None:
    (fault,) = check_overrides(["eval.score=labels", override])
    assert fault.column == override.partition("=")[0]


def test_the_fix_of_a_fault_makes_the_configuration_valid() -> None:
    for metric in (*LABEL_METRICS, *TEXT_METRICS):
        values = compose_values([f"{MONITOR}=val/{metric}"])
        (fault,) = check_validation(values)
        option = fault.fix.removeprefix("set ")
        assert list(check_validation(compose_values([f"{MONITOR}=val/{metric}", option]))) == []


ROW = {"example_id": "a", "prompt": "p", "target": "yes", "nll": 1.0, "target_tokens": 2, "correct_tokens": 1}
LABELLED = {"label": "yes", "prediction": "no", "predicted_label": "no"}


@pytest.mark.parametrize(
    ("overrides", "labelled", "row"),
    [
        (["eval.score=labels"], True, {**ROW, **LABELLED, "label_logprobs": [-1.0, -2.0]}),
        (["eval.score=labels", "score.labels=argmax"], True, {**ROW, **LABELLED}),
        (["eval.score=auto"], True, {**ROW, **LABELLED, "label_logprobs": [-1.0, -2.0]}),
        (["eval.score=auto"], False, ROW),
        (["eval.score=generate"], True, {**ROW, **LABELLED}),
        (["eval.score=generate"], False, {**ROW, "prediction": "no"}),
        (["eval.score=auto", "score.mode=reference"], True, ROW),
    ],
)
def test_the_listed_metrics_are_those_of_the_scores_table(overrides: list[str], labelled: bool, row: dict) -> None:
    metrics = compute(scores_table([row], ["yes", "no"] if labelled else None))
    defined = {name for name, value in metrics.items() if value is not None}
    assert set(logged_metrics(compose_values(overrides), labelled)) == defined


def test_nothing_but_the_loss_is_logged_by_default() -> None:
    assert logged_metrics(compose_values([])) == [*LOSS_METRICS]


def test_metrics_of_calls_are_listed_for_data_with_functions() -> None:
    row = {**ROW, "prediction": "no", "target_calls": "[]", "predicted_calls": "[]"}
    assert set(logged_metrics(compose_values(["eval.score=auto"]), False, functions=True)) == set(
        compute(scores_table([row], None))
    )


def test_a_missing_reward_is_the_only_fault() -> None:
    overrides = ["objective=grpo", "data=jsonl", "data.path=prompts.jsonl"]
    assert [fault.column for fault in check_overrides(overrides)] == ["reward"]
