"""Options that do nothing with an objective are faults with a fix, and validations log what the objective does."""

from __future__ import annotations

import re

import pytest
import torch

from kamerton.config.compose import compose_values
from kamerton.config.objective import PAIRED, check_objective, objective_faults, preference_metrics
from kamerton.config.training import check_training
from kamerton.config.validation import logged_metrics
from kamerton.objective.judgements import JudgementLoss, Judgements
from kamerton.objective.pair_loss import PairLoss
from kamerton.objective.pairs import Comparison

GROUPS = ("dpo", "ipo", "simpo", "orpo", "apo", "kto")
MONITOR = "callbacks.early_stopping.monitor"


@pytest.mark.parametrize("objective", ["sft", *GROUPS])
def test_every_objective_of_conf_is_accepted(objective: str) -> None:
    values = compose_values([f"objective={objective}"])
    assert [*check_objective(values), *objective_faults(values), *check_training(values)] == []


@pytest.mark.parametrize(
    ("overrides", "column", "fix"),
    [
        (["objective=dpo", "+objective.margin=1"], "objective.margin", "choose objective=simpo"),
        (["objective=ipo", "+objective.label_smoothing=0.1"], "objective.label_smoothing", "choose objective=dpo"),
        (["objective=kto", "+objective.sft_weight=1"], "objective.sft_weight", "choose objective=dpo"),
        (["objective=apo", "+objective.desired_weight=2"], "objective.desired_weight", "choose objective=kto"),
        (["+objective.beta=0.5"], "objective.beta", "choose objective=dpo"),
        (
            ["objective=kto", "objective.desired_weight=0", "objective.undesired_weight=0"],
            "objective.desired_weight",
            "set objective.desired_weight=1",
        ),
        (["objective=dpo", "label_smoothing=0.1"], "label_smoothing", "objective.label_smoothing is the probability"),
        (["objective=simpo", "label_smoothing=0.1"], "label_smoothing", "leave it out"),
        (["objective=dpo", "eval.score=auto"], "eval.score", "log val/preference_accuracy"),
        (["objective=kto", "reward=length"], "reward", "add score.data=FILE score.mode=generate"),
        (["objective=kto", "reward=length", "score.data=test.jsonl"], "reward", "score.mode=generate"),
    ],
)
def test_what_does_nothing_with_the_objective_is_a_fault(overrides: list[str], column: str, fix: str) -> None:
    (fault,) = check_objective(compose_values(overrides))
    assert fault.column == column
    assert fix in fault.fix


def test_rewards_grade_the_answers_to_a_test_set_of_preferences() -> None:
    options = ["objective=dpo", "reward=exact_match", "score.data=test.jsonl", "score.mode=generate"]
    assert not list(check_objective(compose_values(options)))


@pytest.mark.parametrize("name", [*PAIRED, "kto"])
def test_an_objective_without_preferences_names_the_group_that_reads_them(name: str) -> None:
    (fault,) = objective_faults(compose_values([f"objective.name={name}"]))
    assert fault.column == "objective.name"
    typed = re.match(r"choose (objective=.*), which", fault.fix)
    assert typed
    fixed = compose_values(typed[1].split())
    assert objective_faults(fixed) == []
    assert fixed["objective"]["name"] == name
    kept = compose_values([f"objective.name={name}", fault.fix.rpartition(" ")[2]])
    assert objective_faults(kept) == []


@pytest.mark.parametrize("rows", ["preferences", "judgements"])
def test_rewards_of_rows_with_preferences_are_a_fault(rows: str) -> None:
    (fault,) = objective_faults(compose_values(["objective=grpo", "reward=length", f"data.rows={rows}"]))
    assert (fault.column, fault.fix) == ("data.rows", "set data.rows=prompts")
    assert objective_faults(compose_values(["objective=grpo", "reward=length", "data.rows=completions"])) == []


def test_preferences_without_an_objective_are_a_fault_of_training_alone() -> None:
    values = compose_values(["data.rows=preferences"])
    (fault,) = objective_faults(values)
    assert (fault.column, fault.fix) == ("data.rows", "choose objective=dpo, or set data.rows=completions")
    assert check_training(values) == []  # `kamerton prepare` and `kamerton evaluate` may read them


@pytest.mark.parametrize("objective", GROUPS)
def test_the_listed_metrics_are_those_that_training_logs(objective: str) -> None:
    values = compose_values([f"objective={objective}"])
    one = torch.ones(1).double()
    if objective == "kto":
        rows = Judgements(-one, -one, one.long(), one.bool(), one)
        logged = JudgementLoss(0.1).metrics(-one, one[0], rows, lambda value: value)
    else:
        pairs = Comparison(-one, one.long(), one.long() - 1, one.long() - 1, one, one.bool())
        logged = PairLoss(values["objective"]["name"], 0.1).metrics(-one, pairs)
    assert {"loss", *preference_metrics(values)} == logged.keys()
    assert set(preference_metrics(values)) <= set(logged_metrics(values))


@pytest.mark.parametrize(
    ("overrides", "mode"),
    [
        (["objective=dpo", f"{MONITOR}=val/preference_accuracy"], "max"),
        (["objective=ipo", f"{MONITOR}=val/margin"], "max"),
        (["objective=kto", f"{MONITOR}=val/kl"], "min"),
        (["objective=dpo", f"{MONITOR}=val/drift"], "min"),
    ],
)
def test_metrics_of_preferences_may_be_monitored_and_have_a_direction(overrides: list[str], mode: str) -> None:
    values = compose_values(overrides)
    assert check_training(values) == []
    assert values["callbacks"]["early_stopping"]["mode"] == mode


@pytest.mark.parametrize(
    ("overrides", "column", "fix"),
    [
        ([f"{MONITOR}=val/preference_accuracy"], MONITOR, "choose objective=dpo"),
        ([f"{MONITOR}=val/kl"], MONITOR, "choose objective=kto"),
        (["objective=dpo", f"{MONITOR}=val/accuracy"], MONITOR, "did you mean 'val/token_accuracy'?"),
        (["objective=simpo", f"{MONITOR}=val/drift"], MONITOR, "valid here: val/length_chosen"),
        (["objective=dpo", f"{MONITOR}=val/preference_acuracy"], MONITOR, "did you mean 'val/preference_accuracy'?"),
        (
            ["objective=dpo", f"{MONITOR}=val/length_chosen"],
            "callbacks.early_stopping.mode",
            "set callbacks.early_stopping.mode=max",
        ),
    ],
)
def test_metrics_that_the_objective_does_not_log_are_faults(overrides: list[str], column: str, fix: str) -> None:
    (fault,) = check_training(compose_values(overrides))
    assert fault.column == column
    assert fix in fault.fix
